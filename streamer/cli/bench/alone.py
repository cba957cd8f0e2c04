"""Benchmarks without Kafka, and lives full of faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer.cli.bench.shown import end_progress, printed, progress, rounds, show
from streamer.cli.options import NumberRange, number
from streamer.errors import ExitCode
from streamer.extras import require

if TYPE_CHECKING:
    from streamer.bench.harness.figures import Section


@click.command()
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
@rounds()
@number("--records", 4000, "How many records to measure single flight with; 0 for none.", min=0)
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
@printed
def inference(
    files: bool,
    formats: tuple[str, ...],
    texts: int | None,
    rounds: int,
    records: int,
    openvino_python: str,
    dtypes: tuple[str, ...],
) -> list[Section]:
    """Measure tokens a second of a worker's model on one thread, against other ways to run it and the machine's limit,
    and what is saved by computing equal texts in flight only once. With --file: texts a second from file to file,
    against programs that hold the whole file in memory and sort it."""
    require("this benchmark", "inference", "demo")
    if files:
        from streamer.bench.files import file_speed

        if texts == 0:
            raise click.BadParameter("a file needs at least 1", param_hint="--texts")
        return file_speed(texts or 20_000, rounds, formats or ("jsonl",), dtypes, progress)
    texts = 256 if texts is None else texts
    from streamer.bench.inference import inference_speed
    from streamer.bench.single_flight import single_flight

    # First, in a process that has neither torch nor a model in it yet.
    sections = [single_flight(records, rounds, progress)] if records else []
    if texts:
        found = inference_speed(texts, rounds, progress, openvino_python=openvino_python, dtypes=dtypes)
        sections = [*found, *sections]
    return sections


@click.command()
@number("--requests", 128, "How many prompts to send.", min=16)
@rounds()
@printed
def generation(requests: int, rounds: int) -> list[Section]:
    """Measure new tokens a second with mixed lengths, against transformers' continuous batching and padded batches."""
    require("this benchmark", "inference")
    from streamer.bench.generation import generation_throughput

    return [generation_throughput(requests, rounds, progress)]


@click.command()
@click.option("--requests", type=click.IntRange(1), default=1000, show_default=True, help="How many texts to send.")
@number("--latency-ms", 20.0, "What the server takes for one.", min=0)
@click.option(
    "--in-flight", type=click.IntRange(1, 1024), default=64, show_default=True, help="The most requests at a time."
)
@rounds()
@printed
def served(requests: int, latency_ms: float, in_flight: int, rounds: int) -> list[Section]:
    """Measure answers a second of a model that a server runs, against an asynchronous client alone."""
    from streamer.bench.served import served_rate

    return [served_rate(requests, latency_ms / 1e3, in_flight, rounds, progress)]


@click.command()
@rounds(9)
@printed
def report(rounds: int) -> list[Section]:
    """Measure what a report costs a record, beside encoding the record's result. Needs no Kafka."""
    from streamer.bench.reports import report_cost

    return [report_cost(8_000, rounds, progress)]


@click.command()
@number("--seeds", 10_000, "How many lives to simulate.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, metavar="SEED", help="The first seed.")
@number("--processes", 2, "How many processes to use.")
def simulate(seeds: int, first: int, processes: int) -> ExitCode:
    """Simulate whole pipelines in memory, through lives full of faults, and check every law at every step.

    A seed gives the same life every time: to see a failure again, run it alone with --first SEED --seeds 1. Exits 1
    when a seed broke a law.
    """
    from streamer.simulation.seeds import simulate as live_all

    summary = live_all(seeds, first, processes, lambda so_far: progress(f"{so_far.seeds} of {seeds} seeds"))
    end_progress()
    click.echo(
        f"{summary.seeds:,} seeds, {summary.seeds_per_s:.1f} a second; {summary.records:,} records, "
        f"{summary.steps:,} steps, {summary.rebalances:,} rebalances, {summary.virtual_s / 3600:,.1f} simulated hours"
    )
    for kind, times in summary.faults.most_common():
        click.echo(f"  {kind:<22} {times:>9,}  in {summary.seeds_with[kind] / summary.seeds:.0%} of the seeds")
    if summary.first_failing is None:
        click.echo("no seed broke a law")
        return ExitCode.DONE
    click.echo(f"{len(summary.violations)} seeds broke a law; the first is {summary.first_failing}")
    click.echo(summary.violations[0])
    return ExitCode.BUG


@click.command()
@number("--seeds", 100, "How many days in which nothing changes.", min=0)
@number("--shifts", 20, "How many days with each kind of drift.", min=0)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, metavar="SEED", help="The first seed.")
@number("--processes", 2, "How many processes to use.")
@click.option("--wander", type=NumberRange(0), default=0.0, help="Let shares wander from hour to hour, too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def drift(seeds: int, shifts: int, first: int, wander: float, processes: int, as_json: bool) -> ExitCode:
    """Count false alarms in simulated days without drift, and see whether ten kinds of drift are found and named.

    Exits 1 when a target is missed.
    """
    from streamer.bench.drift import drift as watch_all

    sections = watch_all(seeds, first, shifts, processes, wander, progress)
    show(sections, as_json)
    if any(figure.met is False for section in sections for figure in section.figures):
        return ExitCode.BUG
    return ExitCode.DONE


@click.command()
@number("--minutes", 10.0, "How long to inject faults.", min=0, min_open=True)
@click.option("--seed", type=int, default=1, show_default=True, help="The seed that chooses order, victims and times.")
@number("--events", 100_000, "How many unique events to send, at least.")
@click.option(
    "--model",
    type=click.Choice(["null", "MiniLM"]),
    default="null",
    show_default=True,
    help="The model. null answers at once, and is killed by deadly records.",
)
@number("--members", 3, "How many members the consumer group has.", min=2, max=5)
@click.option("--only", multiple=True, metavar="KIND", help="Inject only this kind of fault; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
def chaos(
    minutes: float, seed: int, events: int, model: str, members: int, only: tuple[str, ...], as_json: bool
) -> ExitCode:
    """Break brokers, members, workers, Redis and links of a real cluster, and name every anomaly that a reader sees.

    Starts three brokers and Redis of its own. Exits 1 when there is an anomaly.
    """
    from streamer.bench.chaos.chaos import Plan, run
    from streamer.bench.chaos.faults import FAULTS
    from streamer.bench.chaos.report import sections

    if unknown := set(only) - {fault.kind for fault in FAULTS}:
        known = ", ".join(fault.kind for fault in FAULTS)
        raise click.BadParameter(f"no such fault: {', '.join(sorted(unknown))}; known are {known}", param_hint="--only")
    result = run(Plan(minutes, seed, events, model, members, only), progress)
    show(sections(result), as_json)
    if result.anomalous:
        return ExitCode.BUG
    return ExitCode.DONE
