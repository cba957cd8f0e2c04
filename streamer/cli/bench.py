"""`streamer bench`: what streamer adds to a loop of one's own, measured on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from streamer.bench.figures import Section

WIDTH = 160  # of tables where there is no terminal
PARTS = ("null", "cache", "spans", "minilm")


def _place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds where to run, and how to print."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host."),
        click.option("--redis", "redis_url", default="", metavar="URL", help="Use this Redis. Default: start one."),
        click.option(
            "--bootstrap-servers", default="", metavar="HOST:PORT", help="Use this Kafka. Default: start one."
        ),
    ):
        command = option(command)
    return command


@click.group()
def bench() -> None:
    """Measure streamer against the shortest loops that do the same, side by side in one run."""


@bench.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Run only this part; may be repeated.")
@click.option(
    "--records", type=click.IntRange(1), default=300_000, show_default=True, help="How many events the backlog has."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="How many interleaved rounds to run."
)
@click.option(
    "--texts", type=click.IntRange(64), default=8_000, show_default=True, help="How many events the model gets."
)
@click.option(
    "--raw-size",
    type=click.IntRange(0),
    default=0,
    help="How many records the raw loop takes at once. Default: the best of four.",
)
@_place
def throughput(
    only: tuple[str, ...],
    records: int,
    rounds: int,
    texts: int,
    raw_size: int,
    bootstrap_servers: str,
    redis_url: str,
    as_json: bool,
) -> None:
    """Measure records a second over a backlog: against the raw loop, with cache, with tracing, and with a model."""
    from streamer.bench.bench import opened
    from streamer.bench.minilm import minilm_throughput
    from streamer.bench.throughput import CACHE, NULL, SPANS, null_throughput

    parts = only or PARTS
    cases = [
        case for part, some in (("null", NULL), ("cache", CACHE), ("spans", SPANS)) if part in parts for case in some
    ]
    sections = []
    with opened(bootstrap_servers, redis_url, redis="cache" in parts) as place:
        if cases:
            sections.append(null_throughput(place, cases, records, rounds, raw_size, _progress))
        if "minilm" in parts:
            sections.append(minilm_throughput(place, texts, rounds, _progress))
    _print(sections, as_json)


@bench.command()
@click.option(
    "--events", type=click.IntRange(1), default=300, show_default=True, help="How many single events each side gets."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="How many events a second to send.",
)
@click.option(
    "--seconds", type=click.FloatRange(1), default=15.0, show_default=True, help="How long to run at each load."
)
@click.option(
    "--only", type=click.Choice(["null", "minilm", "load"]), multiple=True, help="Run only this; may be repeated."
)
@_place
def latency(
    events: int,
    rate: float,
    seconds: float,
    only: tuple[str, ...],
    bootstrap_servers: str,
    redis_url: str,
    as_json: bool,
) -> None:
    """Measure milliseconds from producer to read_committed reader: single events, and with a model under load."""
    from streamer.bench.bench import opened
    from streamer.bench.latency import single_events, under_load

    parts = only or ("null", "minilm", "load")
    sections = []
    with opened(bootstrap_servers, redis_url) as place:
        if "null" in parts or "minilm" in parts:
            sections.append(single_events(place, events, rate, model="minilm" in parts, progress=_progress))
        if "load" in parts:
            sections.append(under_load(place, seconds, _progress))
    _print(sections, as_json)


@bench.command()
@click.option(
    "--model",
    "models",
    type=click.Choice(["builtin:null", "MiniLM"]),
    multiple=True,
    help="Which model to serve. Default: both.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often to kill each.")
@_place
def restart(models: tuple[str, ...], rounds: int, bootstrap_servers: str, redis_url: str, as_json: bool) -> None:
    """Measure the seconds from a restart after kill -9 to the first new result."""
    from streamer.bench.bench import opened
    from streamer.bench.restart import MODELS, restarts

    with opened(bootstrap_servers, redis_url) as place:
        _print([restarts(place, list(models or MODELS), rounds, _progress)], as_json)


@bench.command()
@click.option(
    "--records", type=click.IntRange(1), default=500_000, show_default=True, help="How many events the backlog has."
)
@click.option(
    "--seconds", type=click.FloatRange(1), default=40.0, show_default=True, help="How long to watch each, at most."
)
@_place
def memory(records: int, seconds: float, bootstrap_servers: str, redis_url: str, as_json: bool) -> None:
    """Measure the driver's memory over a backlog: with a worker that can't keep up, and with the null model."""
    from streamer.bench.bench import opened
    from streamer.bench.memory import driver_memory

    with opened(bootstrap_servers, redis_url, redis=True) as place:
        _print([driver_memory(place, records, seconds, _progress)], as_json)


@bench.command()
@click.option(
    "--records", type=click.IntRange(100), default=100_000, show_default=True, help="How many events each backlog has."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="How many interleaved rounds to run."
)
@_place
def poison(records: int, rounds: int, bootstrap_servers: str, redis_url: str, as_json: bool) -> None:
    """Measure what it costs the other texts when 1 % make the model raise."""
    from streamer.bench.bench import opened
    from streamer.bench.poison import poison_cost

    with opened(bootstrap_servers, redis_url) as place:
        _print([poison_cost(place, records, rounds, _progress)], as_json)


@bench.command()
@click.option(
    "--records", type=click.IntRange(100), default=1_000_000, show_default=True, help="How many dead letters to list."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="How many interleaved rounds to run."
)
@_place
def dlq(records: int, rounds: int, bootstrap_servers: str, redis_url: str, as_json: bool) -> None:
    """Measure how many dead letters a second `dlq list` filters, against the shortest such loop, and its memory."""
    from streamer.bench.bench import opened
    from streamer.bench.dlq import dead_letter_listing

    with opened(bootstrap_servers, redis_url) as place:
        _print([dead_letter_listing(place, records, rounds, _progress)], as_json)


@bench.command()
@click.option("--file", "files", is_flag=True, help="Measure whole files through `streamer infer`, on all cores.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["jsonl", "parquet"]),
    multiple=True,
    help="The format of the files of --file.",
)
@click.option(
    "--texts",
    type=click.IntRange(0),
    help="How many short texts, with fewer long ones; 0 for none. Default: 256, or 20,000 mixed texts with --file.",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="How many interleaved rounds to run."
)
@click.option(
    "--records",
    type=click.IntRange(0),
    default=4000,
    show_default=True,
    help="How many records to measure single flight with; 0 for none.",
)
@click.option(
    "--openvino-python",
    default="",
    metavar="PATH",
    help="Also measure this Python's sentence-transformers[openvino], which needs an environment of its own.",
)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(["bfloat16", "float32"]),
    multiple=True,
    help="Compute in this dtype; may be repeated. Default: float32, and bfloat16 where the processor supports it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def inference(
    files: bool,
    formats: tuple[str, ...],
    texts: int | None,
    rounds: int,
    records: int,
    openvino_python: str,
    dtypes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure tokens a second of a worker's model on one thread, against other ways to run it and the machine's limit,
    and what is saved by computing equal texts in flight only once. With --file: texts a second from file to file,
    against programs that hold the whole file in memory and sort it."""
    if files:
        from streamer.bench.files import file_speed

        if texts == 0:
            raise click.BadParameter("a file needs at least 1", param_hint="--texts")
        _print(file_speed(texts or 20_000, rounds, formats or ("jsonl",), dtypes, _progress), as_json)
        return
    texts = 256 if texts is None else texts
    from streamer.bench.inference import inference_speed
    from streamer.bench.single_flight import single_flight

    # First, in a process that has neither torch nor a model in it yet.
    sections = [single_flight(records, rounds, _progress)] if records else []
    if texts:
        found = inference_speed(texts, rounds, _progress, openvino_python=openvino_python, dtypes=dtypes)
        sections = [*found, *sections]
    _print(sections, as_json)


@bench.command()
@click.option("--requests", type=click.IntRange(16), default=128, show_default=True, help="How many prompts to send.")
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="How many interleaved rounds to run."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def generation(requests: int, rounds: int, as_json: bool) -> None:
    """Measure new tokens a second with mixed lengths, against transformers' continuous batching and padded batches."""
    from streamer.bench.generation import generation_throughput

    _print([generation_throughput(requests, rounds, _progress)], as_json)


@bench.command()
@click.option(
    "--rounds", type=click.IntRange(1), default=9, show_default=True, help="How many interleaved rounds to run."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def report(rounds: int, as_json: bool) -> None:
    """Measure what a report costs a record, beside encoding the record's result. Needs no Kafka."""
    from streamer.bench.reports import report_cost

    _print([report_cost(8_000, rounds, _progress)], as_json)


@bench.command()
@click.option("--model", default="", metavar="REFERENCE", help="The encoder to measure. Default: MiniLM.")
@click.option(
    "--shape", type=click.Choice(["minilm", "base", "large"]), help="Use random weights of this shape instead."
)
@click.option("--device", default="auto", show_default=True, help="Where it runs: auto, cpu or cuda:N.")
@click.option("--dtype", default="auto", show_default=True, help="Precision: auto, float32, bfloat16 or float16.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "openvino"]),
    default="auto",
    show_default=True,
    help="Which library runs the network.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="How many CPU threads to use.")
@click.option(
    "--batch-tokens", type=click.IntRange(0), default=0, help="Tokens in a forward batch. Default: the device's."
)
@click.option("--texts", type=click.IntRange(64), default=4000, show_default=True, help="How many texts a round has.")
@click.option(
    "--tokens", type=click.IntRange(3), default=104, show_default=True, help="How many tokens a text has on average."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How many rounds to run.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def device(
    model: str,
    shape: str | None,
    device: str,
    dtype: str,
    backend: str,
    threads: int,
    batch_tokens: int,
    texts: int,
    tokens: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Measure tokens a second of one worker fed from memory, on a CPU or a GPU: no Kafka, and no weights needed."""
    import tempfile

    from streamer.bench.device import device_speed, quiet, random_encoder, spec_of

    given = {"device": device, "dtype": dtype, "backend": backend, "threads": threads, "batch_tokens": batch_tokens}
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        quiet(spec_of(model, **given))  # type: ignore[arg-type]
        if shape:
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"  # what is found out about random weights is worth nothing
            model = str(random_encoder(Path(folder, shape), shape))
        spec = spec_of(model, **given)  # type: ignore[arg-type]
        _print([device_speed(spec, texts, tokens, rounds, _progress)], as_json)


@bench.command()
@click.option("--seeds", type=click.IntRange(1), default=10_000, show_default=True, help="How many lives to simulate.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, metavar="SEED", help="The first seed.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="How many processes to use.")
def simulate(seeds: int, first: int, processes: int) -> None:
    """Simulate whole pipelines in memory, through lives full of faults, and check every law at every step.

    A seed gives the same life every time: to see a failure again, run it alone with --first SEED --seeds 1. Exits 1
    when a seed broke a law.
    """
    from streamer.errors import ExitCode
    from streamer.simulation.seeds import simulate as live_all

    summary = live_all(seeds, first, processes, lambda so_far: _progress(f"{so_far.seeds} of {seeds} seeds"))
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    click.echo(
        f"{summary.seeds:,} seeds, {summary.seeds_per_s:.1f} a second; {summary.records:,} records, "
        f"{summary.steps:,} steps, {summary.rebalances:,} rebalances, {summary.virtual_s / 3600:,.1f} simulated hours"
    )
    for kind, times in summary.faults.most_common():
        click.echo(f"  {kind:<22} {times:>9,}  in {summary.seeds_with[kind] / summary.seeds:.0%} of the seeds")
    if summary.first_failing is None:
        click.echo("no seed broke a law")
        return
    click.echo(f"{len(summary.violations)} seeds broke a law; the first is {summary.first_failing}")
    click.echo(summary.violations[0])
    sys.exit(ExitCode.BUG)


@bench.command()
@click.option(
    "--seeds", type=click.IntRange(0), default=100, show_default=True, help="How many days in which nothing changes."
)
@click.option(
    "--shifts", type=click.IntRange(0), default=20, show_default=True, help="How many days with each kind of drift."
)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, metavar="SEED", help="The first seed.")
@click.option("--wander", type=click.FloatRange(0), default=0.0, help="Let shares wander from hour to hour, too.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="How many processes to use.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def drift(seeds: int, shifts: int, first: int, wander: float, processes: int, as_json: bool) -> None:
    """Count false alarms in simulated days without drift, and see whether ten kinds of drift are found and named.

    Exits 1 when a target is missed.
    """
    from streamer.bench.drift import drift as watch_all
    from streamer.errors import ExitCode

    sections = watch_all(seeds, first, shifts, processes, wander, _progress)
    _print(sections, as_json)
    if any(figure.met is False for section in sections for figure in section.figures):
        sys.exit(ExitCode.BUG)


@bench.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long to inject faults.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The seed that chooses order, victims and times.")
@click.option(
    "--events",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="How many unique events to send, at least.",
)
@click.option(
    "--model",
    type=click.Choice(["null", "MiniLM"]),
    default="null",
    show_default=True,
    help="The model. null answers at once, and is killed by deadly records.",
)
@click.option(
    "--members",
    type=click.IntRange(2, 5),
    default=3,
    show_default=True,
    help="How many members the consumer group has.",
)
@click.option("--only", multiple=True, metavar="KIND", help="Inject only this kind of fault; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def chaos(
    minutes: float, seed: int, events: int, model: str, members: int, only: tuple[str, ...], as_json: bool
) -> None:
    """Break brokers, members, workers, Redis and links of a real cluster, and name every anomaly that a reader sees.

    Starts three brokers and Redis of its own. Exits 1 when there is an anomaly.
    """
    from streamer.bench.chaos.chaos import Plan, run
    from streamer.bench.chaos.faults import FAULTS
    from streamer.bench.chaos.report import sections
    from streamer.errors import ExitCode

    if unknown := set(only) - {fault.kind for fault in FAULTS}:
        known = ", ".join(fault.kind for fault in FAULTS)
        raise click.BadParameter(f"no such fault: {', '.join(sorted(unknown))}; known are {known}", param_hint="--only")
    story = run(Plan(minutes, seed, events, model, members, only), _progress)
    _print(sections(story), as_json)
    if story.anomalous:
        sys.exit(ExitCode.BUG)


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{what} …", nl=False, err=True)
    else:
        click.echo(what, err=True)


def _print(sections: Sequence[Section], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from streamer.bench.figures import document

    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    found = document(sections)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    host = found["host"]
    load = ", ".join(map(str, host["load_average"]))
    console.print(
        f"{host['cpu']}, {host['cores']} cores, Python {host['python']}, load average {load}", highlight=False
    )
    for section in sections:
        names = list(dict.fromkeys(name for figure in section.figures for name in figure.columns))
        table = Table(
            title=section.title, title_justify="left", caption="\n".join(section.notes), caption_justify="left"
        )
        table.add_column("")
        for heading in ("value", "rounds", "target", "verdict", *names):
            table.add_column(heading, justify="right")
        for figure in section.figures:
            spread = f"{min(figure.values):.2f}-{max(figure.values):.2f}" if figure.values else ""
            verdict = "" if figure.met is None else "[green]met[/]" if figure.met else "[red]missed[/]"
            table.add_row(
                figure.name,
                f"{_number(figure.value)} {figure.unit}",
                spread,
                str(figure.target or ""),
                verdict,
                *(_number(figure.columns[name]) if name in figure.columns else "" for name in names),
            )
        console.print(table)


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
