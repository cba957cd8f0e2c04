"""`streamer dlq bury` and `release`: end the hold of a partition whose record ended processes."""

from __future__ import annotations

import sys
import time

import click

from streamer.cli.dlq.options import place, tracing
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.core.headers import TRACEPARENT
from streamer.core.record import Record
from streamer.core.traceparent import parse
from streamer.errors import UsageError

_pipeline = click.option("--pipeline", metavar="NAME", help="The pipeline that holds it, if several do.")
_yes = click.option(
    "--yes", is_flag=True, help="Do it without asking. Without this, it is a dry run where nobody can be asked."
)


@click.command()
@click.argument("where", metavar="TOPIC/PARTITION/OFFSET")
@_pipeline
@_yes
@configured
def bury(config: Config, where: str, pipeline: str | None, yes: bool) -> None:
    """Make the record at the head of a held partition a dead letter, so that the pipeline continues after it.

    A partition is held when crash_limit processes died in a row while working on that record; /readyz, the log,
    `streamer lag` and `streamer doctor` name it. Dead letter and offset are written in one transaction, whether the
    pipeline is running or not; if it is, it continues within seconds.
    """
    _end(config, where, pipeline, yes=yes, burying=True)


@click.command()
@click.argument("where", metavar="TOPIC/PARTITION")
@_pipeline
@_yes
@configured
def release(config: Config, where: str, pipeline: str | None, yes: bool) -> None:
    """Read a held partition again from its head, e.g. with more memory or a model that was fixed.

    The count of deaths starts again at zero: the partition is held again after crash_limit more. A pipeline that is
    running continues within seconds.
    """
    _end(config, where, pipeline, yes=yes, burying=False)


def _end(config: Config, where: str, pipeline: str | None, *, yes: bool, burying: bool) -> None:
    from streamer.kafka.group_copier import Groups
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.holds import end_hold, find_hold, head_of
    from streamer.telemetry.spans import Link

    topic, number, offset = place(where) if burying else _partition(where)
    groups = Groups(config.kafka)
    hold = find_hold(config, groups, (topic, number), pipeline)
    log = TopicLog(config.kafka)
    head: Record | None = head_of(log, hold, offset) if burying else None
    at, deaths = f"{topic}/{number}/{hold.note.at}", len(hold.note.by)
    click.echo(f"{at}: {deaths} processes of pipeline {hold.pipeline} died in a row while working on it")
    if head is not None:
        click.echo(f"it becomes a dead letter in {hold.dead_letter}; group {hold.group} reads on from {offset + 1}")
    else:
        click.echo(f"group {hold.group} reads it again")
    if not yes and sys.stdin.isatty():
        yes = click.confirm("Do it now?", err=True)
    elif not yes:
        click.echo("dry run: nothing was written; add --yes to do it")
    if yes:
        act = "bury" if burying else "release"
        about: dict[str, str | int] = {
            "streamer.pipeline": hold.pipeline,
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(number),
            "messaging.kafka.offset": hold.note.at,
        }
        with tracing(config, log) as tracer, tracer.begin(f"{act} record", about) as span:
            if head is not None and (trace := parse(dict(head.headers() or ()).get(TRACEPARENT) or b"")) is not None:
                span.links.append(Link(trace.trace_id, trace.span_id, topic, number, offset))
            end_hold(log, groups, hold, head, time.time_ns() // 1_000_000)
        click.echo("buried" if burying else "released", err=True)


def _partition(text: str) -> tuple[str, int, int]:
    topic, _, number = text.rpartition("/")
    if not topic or "/" in topic or not number.isdecimal() or not number.isascii():
        raise UsageError(f"{text}: write TOPIC/PARTITION without an offset, e.g. reviews/0")
    return topic, int(number), -1
