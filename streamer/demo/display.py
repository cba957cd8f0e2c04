"""What the demo shows: steps and live progress on standard error, the summary on standard output.

On a terminal it moves and has colours; elsewhere it is plain lines, a few in all, without control characters.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from streamer.demo.pace import UNDER_WAY
from streamer.demo.summary import PipelineSummary, Sizes, Summary
from streamer.demo.watch import Watch

PLAIN_WIDTH = 120
_PLAIN_EVERY_S = 5.0
_MAX_TEXT_CHARS = 100
_RATE_OVER_S = 3.0


class _RateColumn(ProgressColumn):
    """Records a second over the last few seconds."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:>7,.0f}/s" if task.speed and not task.finished else "", style="cyan")


class Display:
    """Says what goes on; a context manager that leaves the terminal as it was."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status: Status | None = None
        self._progress: Progress | None = None
        self._watch: Watch | None = None
        self._step = ""
        self._step_at = self._plain_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
        if self._progress is not None:
            self._progress.stop()
        if kind is KeyboardInterrupt:
            self._console.print("Stopped; all that was started has ended.")

    def step(self, what: str) -> None:
        """A new step begins, the one before is done."""
        self.end_step()
        self._step, self._step_at = what, time.monotonic()
        if self._console.is_terminal:
            self._status = self._console.status(f"{what} …")
            self._status.start()
        else:
            self._say(f"{what} …")

    def note(self, progress: str) -> None:
        """How far the step is."""
        if self._status is not None:
            self._status.update(f"{self._step}, {progress} …")
        elif time.monotonic() - self._plain_at >= _PLAIN_EVERY_S:
            self._plain_at = time.monotonic()
            self._say(progress)

    def end_step(self) -> None:
        """The step is done."""
        if self._status is not None:
            self._status.stop()
            self._status = None
            took_s = time.monotonic() - self._step_at
            self._console.print(f"[green]✓[/] {self._step} [dim]{took_s:.1f} s[/]", highlight=False)
        if self._progress is not None:
            self.update()
            self._progress.stop()
            self._progress = None

    def follow(self, watch: Watch) -> None:
        """Show what is sent and what comes of it, until the next step."""
        self.end_step()
        self._watch, self._plain_at = watch, time.monotonic()
        if not self._console.is_terminal:
            self._say(
                f"Sending {len(watch.script.items):,} records: some to measure the capacity, live traffic at half of"
                " that, and the rest at once …"
            )
            return
        self._progress = Progress(
            TextColumn("  {task.description:<10}"),
            BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[counts]:<44}"),
            _RateColumn(),
            console=self._console,
            speed_estimate_period=_RATE_OVER_S,
        )
        for name in ("sent", *watch.seen):
            self._progress.add_task(name, total=len(watch.script.items), counts="")
        self._progress.start()

    def update(self) -> None:
        """Show how far everything is now."""
        watch = self._watch
        if watch is None:
            return
        if self._progress is None:
            if time.monotonic() - self._plain_at >= _PLAIN_EVERY_S:
                self._plain_at = time.monotonic()
                self._say(watch.counts())
            return
        sent, *pipelines = self._progress.task_ids
        self._progress.update(sent, completed=watch.sent, counts=f"{watch.sent:,} records, {watch.pace}")
        for task, seen in zip(pipelines, watch.seen.values(), strict=True):
            skipped = f", {seen.skipped.total()} skipped" if seen.skipped else ""
            counts = f"{seen.results:,} results, {seen.dead_letters} dead letters{skipped}"
            self._progress.update(task, completed=seen.done, counts=counts)

    def print(self, summary: Summary, kept: Path | None, *, as_json: bool) -> None:
        """The summary; `kept` is the configuration's path if the stack was left running."""
        if as_json:
            document = msgspec.to_builtins(summary) | {"config": str(kept) if kept else None}
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
            return
        out = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        out.print()
        out.print(_figures(summary))
        out.print()
        out.print(_poison(summary))
        for line in (*_examples(summary), "", *_health(summary), "", *_verdict(summary), "", *_further(kept)):
            out.print(line, highlight=False, soft_wrap=True)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)


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
