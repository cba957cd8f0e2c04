"""`streamer tail`: read results, dead letters, spans and reports."""

from __future__ import annotations

import itertools
import json

import click

from streamer.cli.options import configured
from streamer.cli.records import Kind, show
from streamer.config.load import Config
from streamer.core.events.record_headers import headers_of
from streamer.core.record import BareRecord, ReadRecord, Record
from streamer.errors import UsageError


@click.command()
@click.argument("topics", nargs=-1, required=True)
@click.option(
    "--from", "start", metavar="PLACE", help="Where to begin: earliest, latest, or -N for the last N of each partition."
)
@click.option("--max", "most", type=click.IntRange(1), help="Stop after this many records.")
@click.option(
    "--until-end", is_flag=True, help="Stop at the end of the topics as it is now; --from is then earliest by default."
)
@click.option(
    "--kind",
    type=click.Choice([each.value for each in Kind]),
    default="auto",
    show_default=True,
    help="Read the records as these.",
)
@click.option("--show-text", is_flag=True, help="Show the texts of dead letters too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@configured
def tail(
    config: Config,
    topics: tuple[str, ...],
    start: str | None,
    most: int | None,
    until_end: bool,
    kind: str,
    show_text: bool,
    as_json: bool,
) -> None:
    """Read TOPICS as a subscriber does: committed records of all partitions, without a consumer group.

    Follows the topics from their ends until interrupted, unless told otherwise.
    """
    from streamer.kafka.reader import Reader
    from streamer.kafka.readings import Results
    from streamer.kafka.topics import connect

    plain = Results(config).plain
    place = _place(start or ("earliest" if until_end else "latest"))
    connect(config.kafka)
    with Reader(config.kafka, topics, start=place) as reader:
        messages = reader.read_until_end() if until_end else reader.records()
        for message in itertools.islice(messages, most):
            (headers,) = headers_of([message])
            record: Record = BareRecord(message) if headers is None else message
            if headers is not None and (value := plain(record)) != (record.value() or b""):
                record = ReadRecord(message, headers, value)
            for shown in show(record, Kind(kind), config.telemetry, show_text=show_text):
                click.echo(json.dumps(shown.machine, ensure_ascii=False) if as_json else shown.line)


def _place(text: str) -> str | int:
    if text in ("earliest", "latest"):
        return text
    if text.startswith("-") and text[1:].isdigit():
        return int(text[1:])
    raise UsageError(f"--from {text}: write earliest, latest, or -N for the last N records of each partition")
