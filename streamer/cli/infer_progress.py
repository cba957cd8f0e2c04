"""What `streamer infer` says of its work on standard error: a live line on a terminal, else one every ten seconds, and
a summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as LiveLine

from streamer.cli.options import SAY_EVERY_S
from streamer.files.rows import Rows

if TYPE_CHECKING:
    from streamer.app.infer import Progress


def shown(rows: Rows, done: int) -> AbstractContextManager[Callable[[Progress], None]]:
    """Tell how far the run is, of whose rows the first `done` were answered before."""
    console = Console(stderr=True)
    pace = Pace(rows, done)
    return _Bar(pace, console) if console.is_terminal else nullcontext(_Lines(pace))


def summary(counts: Progress, began: float, ended: float) -> str:
    """What a run came to; times are those of the monotonic clock."""
    seconds = ended - began
    loading_s = seconds if counts.loaded is None else counts.loaded - began
    rate = counts.written / max(seconds - loading_s, 1e-9)
    codes = ", ".join(f"{code} {count:,}" for code, count in sorted(counts.codes.items()))
    parts = [
        f"{counts.written:,} {'row' if counts.written == 1 else 'rows'} in {seconds:,.1f} s",
        *([f"{rate:,.0f} rows/s once the model was ready, after {loading_s:,.1f} s"] if counts.written else []),
        f"{counts.failed:,} failed" + (f" ({codes})" if codes else ""),
        *([f"{counts.cached:,} from a cache"] if counts.cached else []),
    ]
    return f"streamer: {'; '.join(parts)}"


class Pace:
    """The share of the input that is answered, the rate, and the time left, all since the model was ready."""

    def __init__(self, rows: Rows, done: int) -> None:
        self._rows = rows
        self._done = done
        self._first: tuple[float, float] | None = None  # share and time of the first answers

    def share(self, counts: Progress) -> float | None:
        """The share; None for a pipe, since nobody knows how much will come."""
        total = self._rows.total_bytes
        if not total:
            return None
        answered = self._done + counts.written
        return self._rows.read_bytes / total * answered / max(self._rows.given, answered, 1)

    def rate(self, counts: Progress, now: float) -> float:
        """Rows a second."""
        return counts.written / max(now - counts.loaded, 1e-9) if counts.loaded is not None else 0.0

    def left(self, counts: Progress, now: float) -> str:
        """As in "45%, 0:01:10 left"; empty where it can't be told yet."""
        share = self.share(counts)
        if share is None or not counts.written or share >= 1.0:
            return ""
        if self._first is None:
            self._first = share, now
        share_before, began = self._first
        if share <= share_before:
            return f"{share:.0%}"
        left_s = int((1.0 - share) * (now - began) / (share - share_before))
        return f"{share:.0%}, {left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} left"


class _Lines:
    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._said = time.monotonic()

    def __call__(self, counts: Progress) -> None:
        now = time.monotonic()
        left = self._pace.left(counts, now)
        if now - self._said < SAY_EVERY_S:
            return
        self._said = now
        if counts.loaded is None:
            click.echo("streamer: loading the model", err=True)
            return
        parts = [f"{counts.written:,} rows", f"{counts.failed:,} failed", f"{self._pace.rate(counts, now):,.0f} rows/s"]
        click.echo(f"streamer: {', '.join([*parts, *([left] if left else [])])}", err=True)


class _Bar:
    def __init__(self, pace: Pace, console: Console) -> None:
        self._pace = pace
        self._bar = LiveLine(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )

    def __enter__(self) -> Callable[[Progress], None]:
        self._bar.start()
        task = self._bar.add_task("loading the model", total=None, failed=0, rate="", left="")

        def show(counts: Progress) -> None:
            now = time.monotonic()
            share = self._pace.share(counts)
            self._bar.update(
                task,
                description="loading the model" if counts.loaded is None else f"{counts.written:,} rows",
                total=None if share is None or counts.loaded is None else 1.0,
                completed=share or 0.0,
                failed=counts.failed,
                rate=f"{self._pace.rate(counts, now):,.0f} rows/s" if counts.written else "",
                left=self._pace.left(counts, now),
            )

        return show

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
