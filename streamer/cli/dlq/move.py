"""`streamer dlq replay`, `edit` and `discard`: send dead letters back, or close them."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.dlq.editor import editing
from streamer.cli.dlq.options import dead_letter_topics, selecting
from streamer.cli.dlq.report import print_survey, progress
from streamer.cli.options import configured
from streamer.config import Config, KafkaConfig
from streamer.core.deadletters.replay import MAX_ATTEMPTS, Decide, Discard, Reopen, Replay
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.state import JOB_NAME
from streamer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from streamer.ops.dlq.ports import Log
    from streamer.ops.dlq.survey import Order, Targets

_Command = Callable[..., Any]


def _moving(command: _Command) -> _Command:
    """Adds what all three share: the filter, when to write, and the job."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the survey as JSON."),
        click.option("--job", metavar="NAME", help="Name it, to go on after an interruption. Default: one is made up."),
        click.option("--max", "most", type=click.IntRange(1), help="At most so many in this job."),
        click.option(
            "--digest", metavar="HEX", help="Only what the dry run of this digest showed, else nothing is written."
        ),
        click.option("--execute", is_flag=True, help="Do it. Without this nothing is written."),
    ):
        command = option(command)
    return click.argument("topics", nargs=-1)(selecting(command))


def _sending(command: _Command) -> _Command:
    """Adds where to, how fast and how often."""
    for option in (
        click.option(
            "--max-attempts",
            type=click.IntRange(1),
            default=MAX_ATTEMPTS,
            show_default=True,
            help="Leave those that have failed so often.",
        ),
        click.option("--rate", type=click.FloatRange(0, min_open=True), help="A second. Default: as fast as it goes."),
        click.option(
            "--for",
            "addressee",
            default="",
            metavar="PIPELINE",
            help="The pipeline that is to read them, e.g. after it was renamed. Default: the one that failed.",
        ),
        click.option("--to-dead-letters", is_flag=True, help="Let --to be a topic of dead letters."),
        click.option(
            "--to",
            default="",
            metavar="TOPIC",
            help="Another topic than the one that each came from. Default: that one, if a pipeline of the configuration"
            " reads it.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@_moving
@_sending
@configured
def replay(
    config: Config,
    topics: tuple[str, ...],
    selection: Selection,
    asked: dict[str, Any],
    to: str,
    to_dead_letters: bool,
    addressee: str,
    rate: float | None,
    max_attempts: int,
    execute: bool,
    digest: str | None,
    most: int | None,
    job: str | None,
    as_json: bool,
) -> int:
    """Send dead letters of TOPICS back to the topic and partition that they came from. A dry run without --execute.

    Each goes back as it was, with its key, headers and id, and is closed in the same transaction. The pipeline that
    failed reads it again, others skip it. Exits 4 when some may not go, 2 when there are none, 7 while another job
    moves dead letters of one of these topics. What became of them is told by `streamer dlq outcome JOB`.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.destinations import destinations
    from streamer.ops.dlq.models import current_models
    from streamer.ops.dlq.survey import Targets

    names = dead_letter_topics(config, topics)
    places = destinations(config, names, to, addressee, to_dead_letters=to_dead_letters)
    more = {"to": to, "for": addressee, "max_attempts": max_attempts}
    order = _order("replay", names, selection, asked, job, most, rate, **more)
    log = TopicLog(config.kafka)
    targets = Targets(log)
    decide = Replay(order.signature, targets.find, places, max_attempts)
    models = current_models(log, config.telemetry.reports)
    return _run(config.kafka, log, order, decide, targets, execute, as_json, digest, models=models)


@click.command()
@_moving
@_sending
@click.option("--patch", metavar="JSON", help="A merge patch for each value, e.g. '{\"params\": null}'.")
@click.option(
    "--from",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that was edited before, as this command kept it: no editor is started.",
)
@configured
def edit(
    config: Config,
    topics: tuple[str, ...],
    selection: Selection,
    asked: dict[str, Any],
    to: str,
    to_dead_letters: bool,
    addressee: str,
    rate: float | None,
    max_attempts: int,
    patch: str | None,
    source: Path | None,
    execute: bool,
    digest: str | None,
    most: int | None,
    job: str | None,
    as_json: bool,
) -> int:
    """Replay dead letters of TOPICS after a change: a JSON merge patch, or in $EDITOR as JSON lines.

    In the editor only values may change; a line that is taken out or left as it is stays a dead letter. Without
    --execute it asks at the end on a terminal, and is a dry run elsewhere. Until the changes are moved their file is
    kept.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.destinations import destinations
    from streamer.ops.dlq.edit import by_patch
    from streamer.ops.dlq.survey import Targets

    names = dead_letter_topics(config, topics)
    places = destinations(config, names, to, addressee, to_dead_letters=to_dead_letters)
    patched = None if patch is None else hashlib.sha256(patch.encode()).hexdigest()
    more = {"to": to, "for": addressee, "max_attempts": max_attempts, "patch_sha256": patched}
    order = _order("edit", names, selection, asked, job, most, rate, **more)
    changed = None if patch is None else by_patch(_patch(patch))
    log = TopicLog(config.kafka)
    targets = Targets(log)
    if changed is not None:
        decide: Decide = Replay(order.signature, targets.find, places, max_attempts, changed)
        return _run(config.kafka, log, order, decide, targets, execute, as_json, digest)
    with editing(log, order, source) as draft:
        if not draft.values:
            click.echo("nothing was changed, so nothing was moved", err=True)
            return ExitCode.DONE
        values = draft.values
        sending = Replay(order.signature, targets.find, places, max_attempts, lambda letter: values[letter.place])
        ask = not execute and sys.stdin.isatty()
        decide = lambda letter: sending(letter) if letter.place in values else None  # noqa: E731
        moved = lambda: draft.discard()  # noqa: E731
        return _run(config.kafka, log, order, decide, targets, execute, as_json, digest, ask=ask, moved=moved)


@click.command()
@_moving
@click.option("--reason", required=True, help="Why; kept with each.")
@configured
def discard(
    config: Config,
    topics: tuple[str, ...],
    selection: Selection,
    asked: dict[str, Any],
    reason: str,
    execute: bool,
    digest: str | None,
    most: int | None,
    job: str | None,
    as_json: bool,
) -> int:
    """Close dead letters of TOPICS for good: they are not listed or replayed any more. A dry run without --execute.

    The records stay in their topic until its retention takes them, and `streamer dlq reopen` opens them again.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.survey import Targets

    names = dead_letter_topics(config, topics)
    order = _order("discard", names, selection, asked, job, most, None, reason=reason)
    log = TopicLog(config.kafka)
    decide = Discard(order.signature, reason)
    return _run(config.kafka, log, order, decide, Targets(log), execute, as_json, digest)


@click.command()
@click.argument("closed_by", metavar="JOB")
@_moving
@configured
def reopen(
    config: Config,
    closed_by: str,
    topics: tuple[str, ...],
    selection: Selection,
    asked: dict[str, Any],
    execute: bool,
    digest: str | None,
    most: int | None,
    job: str | None,
    as_json: bool,
) -> int:
    """Open again what JOB closed in TOPICS, by a replay or a discard. A dry run without --execute.

    It takes back the mark and nothing else: records that a replay sent stay where they were sent, and what became of
    them stays, too. To replay them once more answers them twice, with the same ids.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.survey import Targets

    names = dead_letter_topics(config, topics)
    order = _order("reopen", names, selection, asked, job, most, None, reopens=closed_by)
    log = TopicLog(config.kafka)
    return _run(config.kafka, log, order, Reopen(order.signature), Targets(log), execute, as_json, digest)


def _order(
    action: str,
    names: list[str],
    selection: Selection,
    asked: dict[str, Any],
    job: str | None,
    most: int | None,
    rate: float | None,
    **more: Any,
) -> Order:
    from streamer.ops.dlq.orders import make_order

    if job is not None and re.fullmatch(JOB_NAME, job) is None:
        raise UsageError(f"--job {job}: write 1 to 100 letters, digits, dots, dashes or underscores")
    return make_order(action, names, selection, asked, job, most, rate, **more)


def _run(
    kafka: KafkaConfig,
    log: Log,
    order: Order,
    decide: Decide,
    targets: Targets,
    execute: bool,
    as_json: bool,
    digest: str | None,
    *,
    ask: bool = False,
    moved: Callable[[], None] = lambda: None,
    models: Mapping[str, str] | None = None,
) -> int:
    """Survey, say what was found, move, and call `moved`. Returns the exit code."""
    from streamer.kafka.replay import TransactionalCopier
    from streamer.ops.dlq.move import Mover
    from streamer.ops.dlq.survey import survey

    if to := order.wanted.get("to"):
        targets(str(to))
    found = survey(log, order, decide, models=models)
    if not found.total and not found.stay and not found.resumed:
        where = ", ".join(order.topics)
        if order.reopens:
            raise UsageError(f"job {order.reopens} closed no dead letter in {where} that is still there and closed")
        if found.closed:
            raise UsageError(f"nothing is left: all {found.closed:,} in {where} were replayed or discarded before")
        raise UsageError(f"no dead letter in {where} matches, and nothing was moved; see `streamer dlq list`")
    print_survey(order, found, as_json=as_json, dry=not execute)
    if digest is not None and digest != found.digest:
        raise UsageError(
            f"--digest {digest}: what would move is not what that dry run showed (it is {found.digest} now), so nothing"
            " was moved; look at this one and name its digest"
        )
    if ask and found.total:
        execute = click.confirm("Move them now?", err=True)
    if execute and (found.total or found.resumed):
        with progress(found.total) as report:
            mover = Mover(
                log,
                order,
                decide,
                targets,
                functools.partial(TransactionalCopier, kafka),
                progress=report,
                waiting=lambda text: click.echo(text, err=True),
            )
            mover.execute(found)
        moved()
        click.echo(f"{order.action}: {mover.moved:,} done, job {order.signature.job}", err=True)
    return ExitCode.SOME_FAILED if found.stay else ExitCode.DONE


def _patch(text: str) -> dict[str, Any]:
    try:
        patch = json.loads(text)
    except ValueError:
        patch = None
    if not isinstance(patch, dict):
        raise UsageError("--patch: write a JSON object, in quotes for the shell")
    return patch
