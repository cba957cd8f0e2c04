"""The demo's summary, as tables and lines for people."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from streamer.demo.pace import UNDER_WAY
from streamer.demo.summary import PipelineSummary, Sizes, Summary

_MAX_TEXT_CHARS = 100


def printed(summary: Summary, kept: Path | None) -> Iterator[Table | str]:
    """All of it, in order; `kept` is the configuration's path if the stack was left running."""
    yield ""
    yield _figures(summary)
    yield ""
    yield _poison(summary)
    yield from (*_examples(summary), "", *_health(summary), "", *_verdict(summary), "", *_further(kept))


def _figures(summary: Summary) -> Table:
    table = Table(
        title=f"{summary.events:,} tweets and {len(summary.poison)} poison records, through two pipelines",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 3, 0, 0),
    )
    table.add_column("", style="dim")
    for name in summary.pipelines:
        table.add_column(name)
    pipelines = list(summary.pipelines.values())
    rows = {
        "model": [f"{_model(one)}@{one.revision[:8]}" for one in pipelines],
        "results": [f"{one.results:,}" for one in pipelines],
        "dead letters": [str(sum(one.dead_letters.values())) for one in pipelines],
        "skipped": [", ".join(f"{count} {reason}" for reason, count in one.skipped.items()) for one in pipelines],
        "lost, doubled": [f"{one.lost}, {one.duplicate}" for one in pipelines],
        f"{pipelines[0].repeats.events:,} repeats": [_repeats(one) for one in pipelines],
        f"live, {pipelines[0].latency.per_s}/s: latency": [
            f"p50 {one.latency.p50_ms:,.0f} ms, p99 {one.latency.p99_ms:,.0f} ms" for one in pipelines
        ],
        f"{pipelines[0].throughput.records:,} at once: rate": [f"{one.throughput.per_s:,.0f}/s" for one in pipelines],
        "micro-batches": [_sizes(one.micro_batches) if one.micro_batches else "" for one in pipelines],
        "transactions": [_sizes(one.settles) for one in pipelines],
    }
    for name, cells in rows.items():
        if any(cells):
            table.add_row(name, *map(escape, cells))
    return table


def _model(pipeline: PipelineSummary) -> str:
    """The telling part of the model's name: packages like to call the folder just `model`."""
    return next((part for part in reversed(pipeline.model.split("/")) if part != "model"), pipeline.model)


def _repeats(pipeline: PipelineSummary) -> str:
    repeats = pipeline.repeats
    if not repeats.events:
        return ""
    again = f", {repeats.different} computed again" if repeats.different else ""
    return f"{repeats.cached} from the cache, {repeats.together} with the first{again}"


def _sizes(sizes: Sizes) -> str:
    return f"{sizes.count:,}: median {sizes.median:,}, largest {sizes.largest:,} records"


def _poison(summary: Summary) -> Table:
    table = Table(
        title="What the poison records got",
        title_justify="left",
        title_style="bold",
        show_header=False,
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column()
    table.add_column()
    table.add_column(style="dim", overflow="fold")
    for one in summary.poison:
        if one.as_expected:
            table.add_row("[green]✓[/]", one.expected, escape(one.why))
        else:
            got = ", ".join(f"{name}: {code}" for name, code in one.got.items())
            table.add_row("[red]✗[/]", f"[red]{escape(got)}[/] instead of {one.expected}", escape(one.why))
    return table


def _examples(summary: Summary) -> Iterable[str]:
    for name, pipeline in summary.pipelines.items():
        text, output = _short(pipeline.example.text), pipeline.example.output
        yield ""
        yield f"[bold]{name}[/]  “{text}”"
        if "label" in output:
            human = f" [dim](people: {output['human_score']:+.1f} of 4)[/]" if "human_score" in output else ""
            yield f"  → {output['label']}, {output['score']:.2f}{human}"
        else:
            numbers = ", ".join(f"{number:.3f}" for number in output["vector"])
            yield f"  → {output['dimensions']} numbers: {numbers} …"
            yield f"  [dim]nearest, cosine {output['cosine']:.2f}:[/] “{_short(output['nearest'])}”"
        if pipeline.accuracy is not None:
            accuracy = pipeline.accuracy
            yield (
                f"  [dim]the label is the sign of the people's score for {accuracy.share:.1%} of the"
                f" {accuracy.events:,} tweets with a score of {accuracy.score:g} or more either way[/]"
            )


def _health(summary: Summary) -> Iterable[str]:
    yield "[bold]Is the model still right?[/]"
    for name, pipeline in summary.pipelines.items():
        if (health := pipeline.health) is None:
            continue
        shift = health.shift
        yield (
            f"  {name}: F1 {health.f1_macro:.2f} (macro) against people's labels of {health.texts:,} tweets; its"
            f" confidence is off by {health.ece:.3f} on average (ECE)"
        )
        yield (
            f"  [dim]planted: people find {shift.negative_after:.0%} of the last {shift.texts:,} tweets negative, and"
            f" {shift.negative_before:.0%} of those before[/]"
        )
        mark, said = ("[green]✓[/]", "noticed") if shift.state == "drift" else ("[yellow]?[/]", "not noticed")
        yield from (f"  {mark} {said}: {escape(what)}" for what in shift.what)


def _verdict(summary: Summary) -> Iterable[str]:
    if spans := summary.spans:
        yield (
            f"Traces: {spans.micro_batches:,} spans of micro-batches and {spans.records:,} of records that came with a"
            f" sampled trace, on {spans.topic}."
        )
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary.seconds.items())
    yield (
        f"With {UNDER_WAY} records under way, both pipelines answered {summary.capacity_per_s:,.0f} a second. Live"
        " traffic came at half of that."
    )
    yield (
        f"[dim]Took {sum(summary.seconds.values()):.0f} s ({took}) on {summary.cores} cores; the load was"
        f" {summary.load:.1f}.[/]"
    )
    if summary.ok:
        yield "[green]✓[/] Every record ended exactly once in each pipeline, and every poison record as it should."
    for problem in summary.problems:
        yield f"[red]✗[/] {escape(problem)}"


def _further(kept: Path | None) -> Iterable[str]:
    streamer = _program()
    if kept is None:
        yield f"Nothing is left running. To look around in what came out: [bold]{escape(streamer)} demo --keep[/]"
        return
    path = shlex.quote(str(kept))
    yield "Kafka and Redis are left running. To try next:"
    for what, command in (
        ("what runs, described", f"cat {path}"),
        ("the last results", f"{streamer} tail tweets.sentiment --from -3 --until-end -c {path}"),
        ("the dead letters: why, and how to fix them", f"{streamer} tail tweets.sentiment.dlq --until-end -c {path}"),
        ("both pipelines again, until Ctrl-C", f"{streamer} run -c {path}"),
        ("in a second terminal: results as they come", f"{streamer} tail tweets.sentiment -c {path}"),
        ("in a third: an event of yours", f"echo 'What a day!' | {streamer} produce tweets --text -c {path}"),
        ("the end of it all", f"{streamer} local down && rm -r {shlex.quote(str(kept.parent))}"),
    ):
        yield f"  [dim]# {what}[/]"
        yield f"  {escape(command)}"


def _program() -> str:
    """How to call streamer from here."""
    if shutil.which("streamer"):
        return "streamer"
    called = Path(sys.argv[0])
    if called.name != "streamer":
        return f"{shlex.quote(sys.executable)} -m streamer"
    return shlex.quote(str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return escape(text if len(text) <= _MAX_TEXT_CHARS else f"{text[:_MAX_TEXT_CHARS]}…")
