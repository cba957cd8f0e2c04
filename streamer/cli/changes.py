"""`streamer changes`: what changed since yesterday."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click
import msgspec

from streamer.cli.dlq.options import time_ms
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.errors import UsageError


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--since", metavar="TIME", default="24h", show_default=True, help="How far back: 30m, 24h, 7d, or a time."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a change.")
@configured
def changes(config: Config, names: tuple[str, ...], since: str, as_json: bool) -> None:
    """Show what changed in the pipelines NAME, or in all of them, by time.

    \b
    model          another model, or other files of the same model
    configuration  other settings, by their digest; which ones, as far as is known
    version        another version of streamer
    member         a member started or ended, with its exit code and why
    halt           a member halted
    topic          a partition was read again from an earlier offset, or goes on from a later one

    It reads the reports (telemetry.reports), as far back as that topic keeps them.
    """
    from streamer.kafka.lag import GroupOffsets
    from streamer.kafka.reader import Reader
    from streamer.ops.changes import changes_of, records_back

    topic = config.telemetry.reports
    if not topic:
        raise UsageError(
            "the configuration has no topic for reports, from which changes are read: set telemetry.reports"
        )
    since_ms = time_ms("--since", since, datetime.now(UTC)) or 0
    back = records_back(GroupOffsets(config.kafka), topic, since_ms)
    with Reader(config.kafka, [topic], start=back) as reader:
        found = changes_of((record.value() for record in reader.read_until_end()), since_ms, names)
    for name in names:
        if name not in config.pipelines and name not in found.pipelines:
            known = ", ".join(sorted({*config.pipelines, *found.pipelines})) or "none"
            raise UsageError(f"neither the configuration nor a report knows of a pipeline {name}; there are: {known}")
    if as_json:
        for change in found.changes:
            click.echo(msgspec.json.encode(change))
        return
    for change in found.changes:
        when = datetime.fromtimestamp(change.time_ms / 1000).astimezone().isoformat(" ", "seconds")
        click.echo(f"{when}  {change.pipeline}  {change}")
    if not found.changes:
        then = datetime.fromtimestamp(since_ms / 1000).astimezone().isoformat(" ", "seconds")
        what = "no report was written" if not found.reports else "nothing changed"
        click.echo(f"{what} since {then}", file=sys.stderr)
