"""`streamer health status`: how the models did lately, in the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from streamer.cli.dlq.options import time_ms
from streamer.cli.dlq.views import plain
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.core.health.windows import figures
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS, KEEP, MINUTE_MS, Fold
from streamer.core.health.windows.window import MAX_LABELS, Window
from streamer.core.tally import duration
from streamer.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from streamer.health.summary.standing import DriftStanding
    from streamer.health.summary.status import Course

_LABELS, _LABEL_CHARS = 3, 16
_EDGES, _BETWEEN = 2, 2
_LENGTHS = {"1m": MINUTE_MS, "5m": FIVE_MINUTES_MS, "1h": HOUR_MS, "1d": DAY_MS}


@click.command(short_help="Show how the models did lately.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--since", metavar="TIME", default="1h", show_default=True, help="How far back to look: 30m, 24h, 7d, or a time."
)
@click.option(
    "--window", type=click.Choice(list(_LENGTHS)), default="5m", show_default=True, help="How much time a row covers."
)
@click.option(
    "--against", metavar="TIME", help="Compare with the time from then to --since, e.g. 2d, and say what has changed."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@configured
def status(config: Config, names: tuple[str, ...], since: str, window: str, against: str | None, as_json: bool) -> None:
    """Show how the models of the pipelines NAME, or of all, did lately: a sentence for each revision of a model, and a
    row for each stretch of time. Rows are never cut: the first one may start before --since.

    \b
    results/s  records answered per second
    dead       dead letters among all records
    p50, p99   time from a record's timestamp to its result: half of them, and 99 of 100, took no longer
    LABEL      the share of each of the most frequent answers
    conf       the mean score of the answers, to within 0.025
    tok/char   tokens per character, which changes with the language and encoding of the texts
    cached     results that came from memory or Redis

    Columns are left out if there is no room for them, or if the reports have no such figures. It reads the reports
    (telemetry.reports), as far back as that topic keeps them. A line says how the health app (streamer health run)
    judges drift, or what that takes.
    """
    from rich.console import Console

    from streamer.health.summary.moved import moved
    from streamer.health.summary.read import read_since
    from streamer.health.summary.standing import not_judged, standings
    from streamer.health.summary.status import clock, courses, sentence

    topic = config.telemetry.reports
    if not topic:
        raise UsageError("the configuration has no topic for reports, from which this is read: set telemetry.reports")
    now_ms, length_ms = int(time.time() * 1000), _LENGTHS[window]
    since_ms = (time_ms("--since", since, datetime.now(UTC)) or 0) // length_ms * length_ms
    keep = {**KEEP, length_ms: max(KEEP[length_ms], (now_ms - since_ms) // length_ms + 2)}
    against_ms = since_ms
    if against is not None:
        against_ms = (time_ms("--against", against, datetime.now(UTC)) or 0) // FIVE_MINUTES_MS * FIVE_MINUTES_MS
        if against_ms >= since_ms:
            raise UsageError(f"--against {against} is not before --since {since}: name an earlier time, such as 2d")
        keep[FIVE_MINUTES_MS] = max(keep[FIVE_MINUTES_MS], (now_ms - against_ms) // FIVE_MINUTES_MS + 2)
    fold = Fold(keep)
    there = read_since(config.kafka, topic, against_ms, fold, names)
    for name in names:
        if name not in config.pipelines and name not in there:
            known = ", ".join(sorted({*config.pipelines, *there})) or "none"
            raise UsageError(f"neither the configuration nor a report knows of a pipeline {name}; there are: {known}")
    found = {
        name: courses(fold, name, length_ms, since_ms, now_ms)
        for name in dict.fromkeys(names or sorted({*config.pipelines, *fold.pipelines}))
    }
    if against is not None:
        start_ms = -(-since_ms // FIVE_MINUTES_MS) * FIVE_MINUTES_MS
        found = {
            name: [
                replace(one, findings=moved(fold, name, one.total.revision, against_ms, start_ms, now_ms))
                for one in each
            ]
            for name, each in found.items()
        }
    drift = standings(config, now_ms)
    if as_json:
        shown = {"time_ms": now_ms, "since_ms": since_ms, "window_ms": length_ms}
        told = [_described(name, each, (drift or {}).get(name), now_ms) for name, each in found.items()]
        click.echo(msgspec.json.encode({**shown, "pipelines": told}))
        return
    console = Console()
    for name, each in found.items():
        if not each:
            click.echo(
                f"{plain(name)}: nothing settled since {clock(since_ms, now_ms)}; does it run? streamer status {name}\n"
            )
        for course in each:
            click.echo(
                f"{click.style(plain(name), bold=True)} ({plain(course.model)}): {plain(sentence(course, now_ms))}"
            )
            for finding in course.findings:
                click.echo(f"  {plain(finding)}")
            console.print(table(course, now_ms, console.width))
        if drift is not None:
            line = drift[name].sentence(now_ms) if name in drift else not_judged(name)
            click.echo(f"{plain(name)}: {plain(line)}\n")


class _Column(NamedTuple):
    """A column of the table. Those of the lowest `rank` are shown first, and left out last."""

    heading: str
    rank: int
    text: Callable[[Window, int], str]


def _ms(value: int | None) -> str:
    return "-" if value is None else duration(value / 1000)


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _columns(course: Course) -> list[_Column]:
    """Those that a table may have; the labels are the most frequent ones of all windows."""
    from streamer.health.summary.status import percent

    named = [label for label in figures.label_shares(course.total, _LABELS) if label]
    return [
        _Column("results/s", 0, lambda window, now_ms: f"{figures.rate(window, now_ms):,.3g}"),
        _Column("dead", 1, lambda window, _: percent(figures.dead_letter_share(window))),
        _Column("p50", 3, lambda window, _: _ms(figures.latency_ms(window, 0.5))),
        _Column("p99", 2, lambda window, _: _ms(figures.latency_ms(window, 0.99))),
        *(_Column(plain(label)[:_LABEL_CHARS], 4, partial(_label, label)) for label in named),
        _Column("conf", 5, lambda window, _: _decimals(figures.mean_confidence(window))),
        _Column("tok/char", 6, lambda window, _: _decimals(figures.tokens_per_char(window))),
        _Column("cached", 7, lambda window, _: percent(figures.cached_share(window))),
    ]


def _label(label: str, window: Window, _now_ms: int) -> str:
    from streamer.health.summary.status import percent

    shares = figures.label_shares(window, MAX_LABELS)
    return percent(shares.get(label, 0.0)) if shares else "-"


def table(course: Course, now_ms: int, width: int) -> Table:
    """A row for each window, and one for each time without any; as many columns as there is room for."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from streamer.health.summary.status import clock

    columns, times, cells = _columns(course), [], []
    for each in course.stretches():
        if isinstance(each, Window):
            times.append(clock(each.start_ms, now_ms))
            cells.append([column.text(each, now_ms) for column in columns])
        else:
            times.append(f"{clock(each[0], now_ms)}-{clock(each[1], now_ms)}")
            cells.append(["0", *["-"] * (len(columns) - 1)])
    texts = list(zip(*cells, strict=True))
    left, shown = width - max(map(len, times)) - _EDGES, set()
    for place in sorted(range(len(columns)), key=lambda place: columns[place].rank):
        if set(texts[place]) == {"-"}:
            continue
        left -= max(map(len, (columns[place].heading, *texts[place]))) + _BETWEEN
        if left < 0:
            break
        shown.add(place)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    grid.add_column("from", no_wrap=True)
    for place in sorted(shown):
        grid.add_column(Text(columns[place].heading), justify="right", no_wrap=True)
    for time_, row in zip(times, cells, strict=True):
        grid.add_row(time_, *(row[place] for place in sorted(shown)))
    return grid


def _described(name: str, found: Sequence[Course], drift: DriftStanding | None, now_ms: int) -> dict[str, Any]:
    from streamer.health.summary.status import described, sentence

    return {
        "pipeline": name,
        "drift": drift and drift.described(now_ms),
        "revisions": [
            {
                "model": course.total.model,
                "revision": course.total.revision,
                "says": sentence(course, now_ms),
                "findings": course.findings,
                "total": described(course.total, now_ms),
                "windows": [described(window, now_ms) for window in course.windows],
            }
            for course in found
        ],
    }
