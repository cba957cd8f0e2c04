"""`streamer save`: a topic into a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click

from streamer.cli.options import SAY_EVERY_S, configured, meaning
from streamer.config.load import Config
from streamer.core.events.record_headers import headers_of
from streamer.errors import ExitCode, UsageError
from streamer.files.job import NOTE, PARTIAL, writable
from streamer.files.rows import STDIN, output_format


@click.command()
@click.argument("topic")
@click.argument("output", default=STDIN, metavar="[OUT]")
@click.option(
    "--from", "start", metavar="TIME", help="Begin at this time, RFC 3339 with its offset. Default: earliest."
)
@click.option("--until", "end", metavar="TIME", help="Stop at this time. Default: the end of the topic as it is now.")
@click.option("--show-text", is_flag=True, help="Save the values of dead letters too.")
@click.option("--overwrite", is_flag=True, help="Replace OUT once the new one is complete.")
@configured
def save(
    config: Config, topic: str, output: str, start: str | None, end: str | None, show_text: bool, overwrite: bool
) -> ExitCode:
    """Write the records of TOPIC to OUT, up to the end of the topic as it is now.

    Each result or dead letter becomes a line. OUT is JSON lines, or CSV or Parquet by its suffix; without OUT, lines go
    to standard output. OUT appears when it is complete; until then it is OUT.partial. Only committed records are read,
    in the order of each partition. Exits 4 when some results can't be read as results: they are named, and saved
    unchanged.
    """
    from streamer.kafka.lag import GroupOffsets
    from streamer.kafka.readings import Results, readings_of
    from streamer.kafka.scan import Scan
    from streamer.kafka.topics import connect, require
    from streamer.ops.save import EXAMPLES, Lines

    times = [None if text is None else _time_ms(flag, text) for flag, text in (("--from", start), ("--until", end))]
    with meaning(config, topic, ("output", "dead_letter")):
        require(connect(config.kafka), config.kafka, topic)
    offsets = GroupOffsets(config.kafka)
    places = offsets.partitions([topic])
    now = offsets.ends(places)
    # A partition that has no record of that time or later begins, or ends, where it ends now.
    starts, ends = (
        None if time_ms is None else {place[1]: at for place, at in {**now, **offsets.at_time(places, time_ms)}.items()}
        for time_ms in times
    )
    lines = Lines(readings_of(config), show_text, Results(config).plain)
    began = said = time.monotonic()
    done = 0
    with Scan(config.kafka, topic, starts=starts, ends=ends) as scan, _target(output, overwrite=overwrite) as stream:
        for records in scan.batches():
            for record, headers in zip(records, headers_of(records), strict=True):
                stream.write(lines.line(record, headers) + b"\n")
            done += len(records)
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                click.echo(f"streamer: {done:,} records, {done / (said - began):,.0f}/s", err=True)
    counts = ((lines.results, "results"), (lines.dead_letters, "dead letters"), (lines.others, "others"))
    words = ", ".join(f"{count:,} {what}" for count, what in counts if count) or "nothing"
    click.echo(f"streamer: {topic}: {words} in {time.monotonic() - began:,.1f} s", err=True)
    if lines.unreadable:
        some = ", ".join(map(str, lines.unreadable[:EXAMPLES]))
        click.echo(f"streamer: {len(lines.unreadable):,} can't be read as results: {some}", err=True)
    return ExitCode.SOME_FAILED if lines.unreadable else ExitCode.DONE


def _time_ms(flag: str, text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise UsageError(f"{flag} {text}: write a time with its offset, such as 2026-11-24T08:00:00Z")
    return int(found.timestamp() * 1000)


@contextmanager
def _target(output: str, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Where lines go. A file gets its name, and its format, when all are there. Raises UsageError where it can't."""
    if output == STDIN:
        yield sys.stdout.buffer
        return
    from streamer.files.tables import arrow_for, to_csv, to_parquet
    from streamer.ops.save import row_of

    path = Path(output)
    kind = output_format(output)
    writable(path)
    if (note := path.with_name(path.name + NOTE)).exists():
        raise UsageError(f"`streamer infer` has begun {output} ({note.name}): finish that first, or name another file")
    if path.exists() and not overwrite:
        raise UsageError(f"{output} exists already: --overwrite replaces it once the new one is complete")
    if kind == "parquet":
        arrow_for(path)
    made: Any = {"csv": partial(to_csv, row_of=row_of), "parquet": partial(to_parquet, row_of=row_of)}.get(kind or "")
    lines = path.with_name(path.name + PARTIAL)
    try:
        with lines.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if made is not None:
            table = path.with_name(f"{path.name}.making")
            try:
                made(lines, table)
                table.replace(path)
            finally:
                table.unlink(missing_ok=True)
            lines.unlink()
        else:
            lines.replace(path)
    except BaseException as error:
        lines.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = output  # a write that fails, as on a full disk, does not say where
        raise
