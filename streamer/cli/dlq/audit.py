"""`streamer dlq audit`: who did what to dead letters."""

from __future__ import annotations

import json

import click
import msgspec

from streamer.cli.dlq.views import plain
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.core.deadletters.audit import AUDIT_TOPIC, Audit
from streamer.errors import UsageError

UNENDED = "runs, or was killed"


@click.command()
@click.argument("job", required=False)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC",
    help="Show jobs of this dead-letter topic only; may be repeated.",
)
@click.option("--max", "most", type=click.IntRange(1), help="Show only the last so many jobs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@configured
def audit(config: Config, job: str | None, topics: tuple[str, ...], most: int | None, as_json: bool) -> None:
    """Say who replayed, edited, discarded or reopened dead letters: a line for each start of a job, the oldest first.

    A line has its rate, the digest of its dry run, how many it moved in all its starts, and how it ended. Reads the
    topic streamer.audit. Exits 2 when JOB is not there.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.audits import Audits

    found = [
        (began, last)
        for began, last in Audits().read(TopicLog(config.kafka))
        if job in (None, last.job) and (not topics or set(topics) & set(last.wanted.get("topics", ())))
    ]
    if job is not None and not found:
        raise UsageError(f"no job {job} on {AUDIT_TOPIC}; see `streamer dlq audit`")
    for began, last in found[-(most or len(found)) :]:
        outcome = UNENDED if last.event == "began" else last.outcome or last.event
        if as_json:
            document = {**msgspec.to_builtins(last), "began": began, "outcome": outcome}
            click.echo(json.dumps(document, ensure_ascii=False))
        else:
            click.echo(plain(_line(began, last, outcome)))


def _line(began: str, audit: Audit, outcome: str) -> str:
    wanted = {name: value for name, value in audit.wanted.items() if value not in ({}, [], None)}
    topics = ",".join(map(str, wanted.pop("topics", ())))
    rate = "as fast as it goes" if audit.rate_per_s is None else f"{audit.rate_per_s:g}/s"
    return (
        f"{began}  {audit.action:<8} {audit.job}  by {audit.by}  {topics}  {audit.count:,} moved, {audit.refused:,}"
        f" stayed, {rate}  digest {audit.digest or '-'}  {outcome}  {json.dumps(wanted, ensure_ascii=False)}"
    )
