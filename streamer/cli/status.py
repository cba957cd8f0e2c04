"""`streamer status`: how each pipeline does, in the terminal."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import msgspec

from streamer.cli.options import chosen_pipelines, configured, number
from streamer.config.load import Config
from streamer.core.tally import duration
from streamer.errors import DependencyError, ExitCode

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from streamer.ops.status import Status

_COLOURS = {"ok": "green", "warn": "yellow", "unknown": "yellow", "bad": "red"}
_SHORT_DIGEST = 12
_WIDE = 110


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--watch", is_flag=True, help="Refresh until interrupted.")
@number("--every-s", 1.0, "Seconds between two measurements; without --watch there are two.", min=0.2, max=3600)
@click.option(
    "--metrics", "urls", multiple=True, metavar="URL", help="A driver's /metrics; default: those of this machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object each time.")
@configured
def status(
    config: Config, names: tuple[str, ...], watch: bool, every_s: float, urls: tuple[str, ...], as_json: bool
) -> ExitCode:
    """Show how the pipelines NAME, or all of them, are doing: one row each, the worst first, with what is wrong and the
    fix below it.

    \b
    halted          it stopped by itself: look before you restart it
    stuck           a partition is stuck, or records are waiting and none is settled
    no member       nobody runs this pipeline
    not ready       a driver says that it is not ready
    unknown         its topics or its group can't be read
    falling behind  what waits is getting older (seen with --watch)
    dead letters    more than 1 % of the outcomes of the last five minutes
    loading         its model is being loaded
    behind          records have waited for more than a minute, and are being settled
    working, idle   nothing is late

    \b
    members  how many processes run it, and how many partitions there are
    behind   records that are not settled, and the age of the oldest
    drain    how long settling them takes at the current rate; ? while nothing is settled
    dead     dead letters of the last minute, and their share of all outcomes
    p99      time from an event's timestamp to its result, in the last minute

    The figures come from the brokers, from the reports of the last minute, and from the drivers on this machine. The
    last two may be missing.

    The console judges by the same rules. The exit code is 0 if all pipelines are behind, working or idle, 9 if one
    needs attention, and 5 if the brokers do not answer. A URL of --metrics that does not answer is named.
    """
    from rich.console import Console, Group
    from rich.live import Live

    from streamer.ops.status_watch import StatusWatch
    from streamer.telemetry.scrape import metrics_urls

    chosen, console = chosen_pipelines(config, names), Console()
    with ExitStack() as stack:
        watching = stack.enter_context(StatusWatch(config, chosen, metrics_urls(config, urls)))
        live = None
        if watch and not as_json and console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        looks = 0
        while True:
            began = time.monotonic()
            try:
                found = watching.look()
            except DependencyError as error:
                if not watch:
                    raise
                click.echo(f"streamer: {error}", err=True)
                found = []
            looks += 1
            if live is not None and found:
                grid, lines = table(found, time.time() * 1000, wide=console.width >= _WIDE)
                live.update(Group(grid, *lines, *_named(urls, watching.silent)), refresh=True)
            elif found and looks > 1:  # the first look has no rates
                _print(console, found, as_json)
                for line in _named(urls, watching.silent):
                    click.echo(f"streamer: {line}", err=True)
                if not watch:
                    return ExitCode.DONE if all(each.is_well for each in found) else ExitCode.ATTENTION
            time.sleep(max(0.0, every_s - (time.monotonic() - began)))


def _named(urls: tuple[str, ...], silent: dict[str, str]) -> list[str]:
    """What is known of the drivers that do not answer, of those that were asked for by name."""
    return [silent[url] for url in urls if url in silent]


def _print(console: Console, found: list[Status], as_json: bool) -> None:
    if as_json:
        well = all(each.is_well for each in found)
        pipelines = [described(each) for each in found]
        click.echo(msgspec.json.encode({"time_ms": int(time.time() * 1000), "ok": well, "pipelines": pipelines}))
    else:
        grid, lines = table(found, time.time() * 1000, wide=console.width >= _WIDE)
        console.print(grid)
        for line in lines:  # whole, for who searches them
            console.print(line, soft_wrap=True)


def described(status: Status) -> dict[str, Any]:
    """A pipeline for machines."""
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in {**asdict(status), "ok": status.is_well}.items()
    }


def table(found: list[Status], now_ms: float, *, wide: bool) -> tuple[Table, list[Text]]:
    """All for people: a row each, and sentences below; with more columns where there is room (`wide`)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from streamer.ops.judgement import level_of

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    grid.add_column("pipeline", no_wrap=True, min_width=8)
    grid.add_column("state", no_wrap=True, min_width=max(len(each.state) for each in found))
    for heading in ("members", "rec/s", "behind", "drain", "dead/min", "p99", *(("p50",) if wide else ())):
        grid.add_column(heading, justify="right", no_wrap=True)
    if wide:
        grid.add_column("model")
    lines = []
    for each in found:
        colour = _COLOURS[level_of(each.state)]
        model = f"{each.model}@{each.revision[:_SHORT_DIGEST]}" if each.model else "-"
        grid.add_row(each.pipeline, Text(each.state, style=colour), *_figures(each, wide), *([model] if wide else []))
        lines += [Text.assemble((each.pipeline, "bold"), f": {why}", style=colour) for why in each.why]
        if (last := _last(each, now_ms)) and not each.is_well:
            lines.append(Text.assemble((each.pipeline, "bold"), f": {last}", style="dim"))
    return grid, lines


def _figures(each: Status, wide: bool) -> list[str]:
    dead = None if each.dead_letters is None else sum(each.dead_letters.values())
    share = f" ({each.dead_share:.1%})" if dead and each.dead_share is not None else ""
    age = f" ({duration(each.lag_s)})" if each.lag_records else ""
    return [
        f"{_number(each.members)}/{_number(each.partitions)}",
        _number(each.rate),
        f"{_number(each.lag_records)}{age}",
        "?" if each.lag_records is None else duration(each.drain_s),
        "?" if dead is None else f"{dead:,}{share}",
        *("-" if value is None else duration(value / 1000) for value in (each.p99_ms, each.p50_ms)[: 1 + wide]),
    ]


def _last(each: Status, now_ms: float) -> str:
    """What its reports say of when it last did something."""
    if each.last_settled_ms is None:
        return ""
    said = f"it last settled records {duration(max(now_ms - each.last_settled_ms, 0) / 1000)} ago"
    if each.last_dead_letter_ms is not None:
        ago = duration(max(now_ms - each.last_dead_letter_ms, 0) / 1000)
        said += f"; its last dead letter was {each.last_dead_letter}, {ago} ago"
    return said


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
