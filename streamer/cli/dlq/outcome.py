"""`streamer dlq outcome`: what became of what a replay sent."""

from __future__ import annotations

import json

import click

from streamer.cli.dlq.views import plain
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.errors import ExitCode


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured
def outcome(config: Config, job: str, as_json: bool) -> int:
    """Show what became of the records that JOB sent: answered, failed again, or not read yet.

    Reads what was written since the job began in the topics of the configuration's pipelines. Exits 4 when some failed
    again, 2 when there is no such job.
    """
    from streamer.kafka.lag import GroupOffsets
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.outcome import outcome as found_outcome

    found = found_outcome(TopicLog(config.kafka), config, GroupOffsets(config.kafka), job)
    if as_json:
        click.echo(json.dumps(found.document(), ensure_ascii=False))
    else:
        codes = ", ".join(f"{count:,} {code}" for code, count in found.failed.most_common())
        places = ", ".join(map(str, found.examples))
        lines = (
            (found.sent, "sent", ""),
            (found.answered, "answered", ""),
            (found.failed.total(), "failed again", f"{codes} (e.g. {places})"),
            (found.waiting, "not yet", "not read, or under way"),
            (found.skipped, "skipped", "they have no value"),
            (found.elsewhere, "elsewhere", "no pipeline of the configuration reads them there"),
            (found.gone, "gone", "deleted since by retention"),
        )
        for count, word, more in lines:
            if count or word in ("sent", "answered"):
                click.echo(plain(f"{count:>9,}  {word}{f': {more}' if more else ''}"))
    return ExitCode.SOME_FAILED if found.failed else ExitCode.DONE
