"""`streamer dlq export` and `import`: dead letters as JSON lines, byte for byte."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from streamer.cli.dlq.look import nothing
from streamer.cli.dlq.options import Search, searching
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.core.deadletters.lines import Line, headers_from, line_of, read_line, to_bytes
from streamer.errors import ExitCode, UsageError


@click.command("export")
@searching
@click.option("--all", "with_closed", is_flag=True, help="Include those that were replayed or discarded.")
@click.option("--max", "most", type=click.IntRange(1), help="Stop after so many dead letters.")
def export(search: Search, with_closed: bool, most: int | None) -> int:
    """Write dead letters of TOPICS to standard output as JSON lines: place, time, key, headers and value.

    Bytes that are not UTF-8 are {"base64": "…"}. Exits 4 when the headers of some can't be read: these are left out.
    """
    letters = search.letters(with_closed=with_closed)
    written = left_out = 0
    for letter in itertools.islice(letters, most):
        if letter.headers is None:
            left_out += 1
            click.echo(f"{letter.place}: left out, a header's name is not UTF-8", err=True)
            continue
        sys.stdout.buffer.write(line_of(letter.record, letter.headers) + b"\n")
        written += 1
    sys.stdout.buffer.flush()
    if not written and not left_out:
        nothing(search.topics, search.words)
    return ExitCode.SOME_FAILED if left_out else ExitCode.DONE


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--to", metavar="TOPIC", help="The topic to write to. Default: the one that each line names.")
@click.option("--keep-times", is_flag=True, help="Keep each record's time, from which retention counts. Default: now.")
@configured
def import_(config: Config, file: Path, to: str | None, keep_times: bool) -> int:
    """Write the JSON lines of FILE, made by `export`, to their topic and partition, at its end.

    Every line and every topic is checked before anything is written. Exits 4 when a record could not be delivered.
    """
    from streamer.kafka.replay import TopicLog, writer_for
    from streamer.ops.dlq.destinations import refuse_own_topics
    from streamer.ops.dlq.survey import Targets

    targets = Targets(TopicLog(config.kafka))
    count = 0
    for number, line in _lines(file):
        topic = to or line.topic
        refuse_own_topics(config, topic, "--to" if to else f"{file}, line {number}: topic")
        if line.partition >= targets(topic).partitions:
            raise UsageError(
                f"{file}, line {number}: topic {topic} has no partition {line.partition}; take another --to"
            )
        count += 1
    if not count:
        raise UsageError(f"{file}: no line, so nothing was written")
    with writer_for(config.kafka, targets.limits) as writer:
        for _, line in _lines(file):
            writer.write(
                to or line.topic,
                to_bytes(line.value),
                key=to_bytes(line.key),
                headers=headers_from(line),
                partition=line.partition,
                timestamp_ms=(line.timestamp_ms or 0) if keep_times else 0,
            )
        deliveries = writer.flush()
    click.echo(f"{deliveries.delivered:,} written", err=True)
    failed = deliveries.failed | ({"no answer": deliveries.pending} if deliveries.pending else {})
    for reason, some in failed.items():
        click.echo(f"{some:,} failed: {reason}", err=True)
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _lines(file: Path) -> Iterator[tuple[int, Line]]:
    """The lines with their numbers, empty ones left out. Raises UsageError."""
    try:
        with file.open("rb") as source:
            for number, text in enumerate(source, 1):
                if text.strip():
                    try:
                        yield number, read_line(text)
                    except ValueError as error:
                        raise UsageError(f"{file}, line {number}: {error}; nothing was written") from None
    except OSError as error:
        raise UsageError(f"{file}: can't be read ({error.strerror})") from None
