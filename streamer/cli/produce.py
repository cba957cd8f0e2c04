"""`streamer produce`: write events from a file or from standard input."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from streamer.cli.options import NumberRange, configured
from streamer.config.load import Config
from streamer.errors import ExitCode, UsageError

_NEWS_EVERY = 1000
_NO_EVENT = (
    "line {number} is not a JSON object, so pipeline {pipeline} makes a dead letter of it; --text writes each line as"
    ' {{"text": …}}'
)


@click.command()
@click.argument("topic")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), default=Path("-"))
@click.option("--text", "as_text", is_flag=True, help='Read each line as a text, and write it as {"text": …}.')
@click.option("--key-field", metavar="NAME", help="Take the record's key from this field of each JSON line.")
@click.option("--header", "headers", multiple=True, metavar="KEY=VALUE", help="Add this header to every record.")
@click.option(
    "--partition",
    type=click.IntRange(0),
    help="Write to this partition. Default: by the key, or at random without one.",
)
@click.option("--rate", type=NumberRange(0, min_open=True), help="Records a second. Default: as fast as possible.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@configured
def produce(
    config: Config,
    topic: str,
    file: Path,
    as_text: bool,
    key_field: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    rate: float | None,
    as_json: bool,
) -> int:
    """Write each line of FILE (- or none: standard input) to TOPIC as a record's value, as it is.

    Empty lines are skipped, and nothing is refused: you may try any value. For files, `streamer load` checks each row
    and loads it exactly once. Exits 4 when a record could not be delivered.
    """
    from streamer.kafka.topics import connect, require
    from streamer.kafka.writer import Writer

    every = [_header(text) for text in headers]
    readers = [name for name, one in config.pipelines.items() if topic in one.input and one.input_format == "json"]
    require(connect(config.kafka), config.kafka, topic)
    source = sys.stdin.buffer if str(file) == "-" else _opened(file)
    with source, Writer(config.kafka) as writer:
        lines: Iterable[bytes] = _shown(source, file)
        if rate is not None:
            lines = _paced(lines, rate)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            value = json.dumps({"text": _text(line, number)}, ensure_ascii=False).encode() if as_text else line
            if readers and not _is_object(value):
                click.echo(_NO_EVENT.format(number=number, pipeline=readers[0]), err=True)
            readers = []  # the first line tells what the others are
            key = _key(line, key_field, number) if key_field else None
            writer.write(topic, value, key=key, headers=every, partition=-1 if partition is None else partition)
        deliveries = writer.flush()
    failed = deliveries.failed | ({"no answer": deliveries.pending} if deliveries.pending else {})
    if as_json:
        click.echo(json.dumps({"topic": topic, "delivered": deliveries.delivered, "failed": failed}))
    else:
        click.echo(f"{topic}: {deliveries.delivered} delivered", err=True)
        for reason, count in failed.items():
            click.echo(f"{topic}: {count} failed: {reason}", err=True)
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _is_object(value: bytes) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise UsageError(
            f"{file}: can't be read ({error.strerror}); name another file, or - for standard input"
        ) from None


def _header(text: str) -> tuple[str, bytes | None]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--header {text}: write --header KEY=VALUE")
    return name, value.encode()


def _text(line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"line {number}: not UTF-8; convert the file, e.g. with iconv") from None


def _key(line: bytes, field: str, number: int) -> bytes | None:
    """The field as the key: strings as they are, anything else as JSON. No field, no key."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError(f"line {number}: not JSON, so it has no field {field}; leave out --key-field") from None
    key = event.get(field) if isinstance(event, dict) else None
    if key is None:
        return None
    return key.encode() if isinstance(key, str) else json.dumps(key).encode()


def _paced(lines: Iterable[bytes], rate: float) -> Iterator[bytes]:
    """Each line at its due time, so that a slow stretch is caught up."""
    start = time.monotonic()
    for index, line in enumerate(lines):
        ahead_s = start + index / rate - time.monotonic()
        if ahead_s > 0:
            time.sleep(ahead_s)
        yield line


def _shown(source: BinaryIO, file: Path) -> Iterator[bytes]:
    """The lines without their ends, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        for line in source:
            yield line.rstrip(b"\r\n")
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.fields[records]:,} records"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=file.stat().st_size if file.is_file() else None, records=0)
        size_bytes = 0
        for number, line in enumerate(source, 1):
            size_bytes += len(line)
            if number % _NEWS_EVERY == 1:
                progress.update(task, completed=size_bytes, records=number)
            yield line.rstrip(b"\r\n")
