"""What the demo shows: steps and live progress on standard error, the summary on standard output.

On a terminal it moves and has colours; elsewhere it is plain lines, a few in all, without control characters.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from streamer.demo.printed import printed
from streamer.demo.summary import Summary
from streamer.demo.watch import Watch

PLAIN_WIDTH = 120
_PLAIN_EVERY_S = 5.0
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
        for one in printed(summary, kept):
            if isinstance(one, Table):
                out.print(one)
            else:
                out.print(one, highlight=False, soft_wrap=True)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)
