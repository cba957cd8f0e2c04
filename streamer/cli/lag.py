"""`streamer lag`: how far behind each pipeline is, by records, by time and by drain time."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.options import chosen_pipelines, configured, number
from streamer.config.load import Config
from streamer.core.tally import duration

if TYPE_CHECKING:
    from rich.console import Group

    from streamer.ops.lag import PipelineLag

_LAST_REPORTS = 200


@click.command()
@click.option("--pipeline", "names", multiple=True, metavar="NAME", help="Only this pipeline; may be repeated.")
@click.option("--watch", is_flag=True, help="Refresh until interrupted.")
@number("--every-s", 2.0, "Seconds between two measurements; rates are those between them.", min=0.1, max=3600)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object each time.")
@configured
def lag(config: Config, names: tuple[str, ...], watch: bool, every_s: float, as_json: bool) -> None:
    """Show how far behind each pipeline is, partition by partition.

    \b
    settled  the offset up to which everything is settled; - before the first settle
    end      the offset after the last committed record
    behind   records not settled, and the age of the oldest; records of open transactions count
    in, out  records that arrive, and that are settled, per second
    drain    how long settling what is waiting takes at the current rate; ? while nothing is settled

    The lines under the table say what blocks a partition, as far as the brokers can tell, and how to fix it: an open
    transaction on the input, a batch that can't be read, a committed offset beyond the log's end, a missing topic or
    partition, a partition that is held.

    A running pipeline serves the like on /metrics: streamer_lag_records, streamer_lag_seconds and
    streamer_drain_seconds. If a producer's clock is ahead, streamer_lag_seconds counts from when the record was seen.
    `streamer scaler` tells KEDA how many replicas to start.
    """
    from rich.console import Console
    from rich.live import Live

    from streamer.kafka.lag import GroupOffsets
    from streamer.kafka.reader import Reader
    from streamer.kafka.topics import connect, describe
    from streamer.ops.lag import LagWatch, Tokens

    chosen = chosen_pipelines(config, names)
    tokens, topic = Tokens(), config.telemetry.reports
    console = Console()
    with ExitStack() as stack:
        watching = LagWatch(config, chosen, GroupOffsets(config.kafka), tokens)
        reports = None
        if topic and describe(connect(config.kafka), config.kafka, [topic])[topic]:
            reports = stack.enter_context(Reader(config.kafka, [topic], start=_LAST_REPORTS))
        live = None
        if watch and not as_json and console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        looks = 0
        while True:
            began = time.monotonic()
            if reports is not None:
                for record in reports.read_until_end(timeout_s=5):
                    tokens.add(record.value())
            found = watching.look(time.time())
            looks += 1
            if live is not None:
                live.update(table(found), refresh=True)
            elif looks > 1:  # the first look has no rates
                _print(console, found, as_json)
                if not watch:
                    return
            time.sleep(max(0.0, every_s - (time.monotonic() - began)))


def _print(console: Any, found: list[PipelineLag], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"time_ms": int(time.time() * 1000), "pipelines": [described(each) for each in found]}))
    else:
        console.print(table(found))


def described(lag: PipelineLag) -> dict[str, Any]:
    """A pipeline for machines: the totals, then the partitions."""
    totals = ("records", "seconds", "rate_in", "rate_out", "drain_s", "caught_up_s", "tokens", "tokens_per_record")
    return {
        "pipeline": lag.pipeline,
        "group": lag.group,
        **{name: _rounded(getattr(lag, name)) for name in totals},
        "partitions": [
            {**{name: _rounded(value) for name, value in asdict(each).items()}, "drain_s": _rounded(each.drain_s)}
            for each in lag.partitions
        ],
        "standing": [
            {
                "topic": each.partition[0],
                "partition": each.partition[1],
                "offset": each.offset,
                "reason": each.reason,
                "what": each.what,
                "fix": each.fix,
            }
            for each in lag.standing
        ],
    }


def table(found: list[PipelineLag]) -> Group:
    """Pipelines for people: a table each, with a sentence on where it goes."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for lag in found:
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=len(lag.partitions) > 1)
        grid.add_column("partition", footer="all")
        rows = [
            (
                f"{each.topic}/{each.partition}",
                "-" if each.settled is None else f"{each.settled:,}",
                f"{each.end:,}",
                *_shown(each.records, each.seconds, each.rate_in, each.rate_out, each.drain_s),
            )
            for each in lag.partitions
        ]
        totals = ("", "", *_shown(lag.records, lag.seconds, lag.rate_in, lag.rate_out, lag.drain_s))
        for heading, total in zip(
            ("settled", "end", "behind", "by time", "in/s", "out/s", "drain"), totals, strict=True
        ):
            grid.add_column(heading, justify="right", footer=total)
        for row in rows:
            grid.add_row(*row)
        falls = lag.standing or (lag.records and lag.caught_up_s is None)
        colour = "red" if falls else "yellow" if lag.records else "green"
        parts += [
            Text.assemble((lag.pipeline, "bold"), ("  group ", "dim"), lag.group, "  ", (trend(lag), colour)),
            grid,
            *(Text(str(each), style="red") for each in lag.standing),
        ]
    return Group(*parts)


def trend(lag: PipelineLag) -> str:
    """How the lag is changing, in a few words."""
    tokens = "" if lag.tokens is None else f", about {lag.tokens:,.0f} tokens"
    if not lag.records and not lag.standing:
        return "caught up"
    behind = f"{lag.records:,} behind{tokens}"
    if lag.standing:
        return f"{behind}: stuck ({', '.join(sorted({each.reason for each in lag.standing}))})"
    if lag.rate_in is None or lag.rate_out is None:
        return behind
    if lag.rate_out == 0:
        return f"{behind}: nothing is being settled"
    if lag.caught_up_s is None:
        falls = lag.rate_in - lag.rate_out
        return f"{behind}: falling behind by {falls:,.0f}/s" if falls >= 0.5 else f"{behind}: keeping pace"
    return f"{behind}: caught up in {duration(lag.caught_up_s)}"


def _shown(
    records: int, seconds: float | None, rate_in: float | None, rate_out: float | None, drain: float | None
) -> tuple[str, ...]:
    rates = ("" if rate is None else f"{rate:,.0f}" for rate in (rate_in, rate_out))
    return f"{records:,}", duration(seconds), *rates, duration(drain)


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
