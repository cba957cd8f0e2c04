"""`streamer dlq replay`, `edit` and `discard`: send dead letters back, or close them."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.dlq.options import dead_letter_topics, selecting
from streamer.cli.dlq.report import print_survey, progress
from streamer.cli.options import configured
from streamer.config import Config, KafkaConfig
from streamer.core.deadletters.replay import MAX_ATTEMPTS, Decide, Discard, Replay
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.state import JOB_NAME
from streamer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from streamer.ops.dlq.ports import Log
    from streamer.ops.dlq.survey import Order, Targets

MAX_EDITED = 1_000
_Command = Callable[..., Any]


def _moving(command: _Command) -> _Command:
    """Adds what all three share: the filter, when to write, and the job."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the survey as JSON."),
        click.option("--job", metavar="NAME", help="Name it, to go on after an interruption. Default: one is made up."),
        click.option("--max", "most", type=click.IntRange(1), help="At most so many in this job."),
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
        click.option("--to", default="", metavar="TOPIC", help="Another topic than the one that each came from."),
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
    rate: float | None,
    max_attempts: int,
    execute: bool,
    most: int | None,
    job: str | None,
    as_json: bool,
) -> int:
    """Send dead letters of TOPICS back to the topic and partition that they came from. A dry run without --execute.

    Each goes back as it was, with its key, headers and id, and is closed in the same transaction. The pipeline that
    failed reads it again, others skip it. Exits 4 when some may not go, 2 when there are none.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.survey import Targets

    order = _order("replay", config, topics, selection, asked, job, most, rate, to=to, max_attempts=max_attempts)
    log = TopicLog(config.kafka)
    targets = Targets(log)
    return _run(config.kafka, log, order, Replay(order.signature, targets, to, max_attempts), targets, execute, as_json)


@click.command()
@_moving
@_sending
@click.option("--patch", metavar="JSON", help="A merge patch for each value, e.g. '{\"params\": null}'.")
@configured
def edit(
    config: Config,
    topics: tuple[str, ...],
    selection: Selection,
    asked: dict[str, Any],
    to: str,
    rate: float | None,
    max_attempts: int,
    patch: str | None,
    execute: bool,
    most: int | None,
    job: str | None,
    as_json: bool,
) -> int:
    """Replay dead letters of TOPICS after a change: a JSON merge patch, or in $EDITOR as JSON lines.

    In the editor only values may change; a line that is taken out stays a dead letter. Without --execute it asks at
    the end on a terminal, and is a dry run elsewhere.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.edit import by_patch
    from streamer.ops.dlq.survey import Targets

    digest = None if patch is None else hashlib.sha256(patch.encode()).hexdigest()
    more = {"to": to, "max_attempts": max_attempts, "patch_sha256": digest}
    order = _order("edit", config, topics, selection, asked, job, most, rate, **more)
    changed = None if patch is None else by_patch(_patch(patch))
    log = TopicLog(config.kafka)
    targets = Targets(log)
    if changed is not None:
        decide: Decide = Replay(order.signature, targets, to, max_attempts, changed)
        return _run(config.kafka, log, order, decide, targets, execute, as_json)
    values = _edited(log, order)
    sending = Replay(order.signature, targets, to, max_attempts, lambda letter: values[letter.place])
    ask = not execute and sys.stdin.isatty()
    decide = lambda letter: sending(letter) if letter.place in values else None  # noqa: E731
    return _run(config.kafka, log, order, decide, targets, execute, as_json, ask=ask)


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
    most: int | None,
    job: str | None,
    as_json: bool,
) -> int:
    """Close dead letters of TOPICS for good: they are not listed or replayed any more. A dry run without --execute.

    The records stay in their topic until its retention takes them.
    """
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.survey import Targets

    order = _order("discard", config, topics, selection, asked, job, most, None, reason=reason)
    log = TopicLog(config.kafka)
    return _run(config.kafka, log, order, Discard(order.signature, reason), Targets(log), execute, as_json)


def _order(
    action: str,
    config: Config,
    topics: tuple[str, ...],
    selection: Selection,
    asked: dict[str, Any],
    job: str | None,
    most: int | None,
    rate: float | None,
    **more: Any,
) -> Order:
    from streamer.ops.dlq.orders import make_order

    names = dead_letter_topics(config, topics)
    if more.get("to") in names:
        raise UsageError(f"--to {more['to']}: dead letters are read from this topic; name another one")
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
    *,
    ask: bool = False,
) -> int:
    """Survey, say what was found, move. Returns the exit code."""
    from streamer.kafka.replay import TransactionalCopier
    from streamer.ops.dlq.move import Mover
    from streamer.ops.dlq.survey import survey

    if to := order.wanted.get("to"):
        targets(str(to))
    found = survey(log, order, decide)
    if not found.total and not found.stay and not found.resumed:
        where = ", ".join(order.topics)
        if found.closed:
            raise UsageError(f"nothing is left: all {found.closed:,} in {where} were replayed or discarded before")
        raise UsageError(f"no dead letter in {where} matches, and nothing was moved; see `streamer dlq list`")
    print_survey(order, found, as_json=as_json, dry=not execute)
    if ask and found.total:
        execute = click.confirm("Move them now?", err=True)
    if execute and (found.total or found.resumed):
        with progress(found.total) as moved:
            mover = Mover(
                log,
                order,
                decide,
                targets,
                functools.partial(TransactionalCopier, kafka),
                progress=moved,
            )
            mover.execute(found)
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


def _edited(log: Log, order: Order) -> dict[Any, bytes | None]:
    """Let the operator change the values in an editor; the file is readable by its owner alone and goes at the end."""
    from streamer.ops.dlq.edit import read_values, write_lines
    from streamer.ops.dlq.find import find, read_closed

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError("set EDITOR, e.g. EDITOR=vi, or change the values with --patch")
    limit = order.most or MAX_EDITED
    with tempfile.TemporaryDirectory(prefix="streamer-dlq-") as folder:
        path = Path(folder) / "dead-letters.jsonl"
        letters = list(itertools.islice(find(log, order.topics, order.selection, read_closed(log)), limit + 1))
        if len(letters) > limit and order.most is None:
            raise UsageError(f"more than {limit:,} dead letters for an editor; narrow the filter, or give --max N")
        written = write_lines(letters[:limit], path)
        if not written:
            raise UsageError(f"no dead letter in {', '.join(order.topics)} matches; see `streamer dlq list`")
        try:
            code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
        except OSError as error:
            raise UsageError(f"EDITOR={editor}: can't be started ({error.strerror})") from None
        if code:
            raise UsageError(f"the editor ended with {code}; nothing was moved")
        return read_values(path, written)
