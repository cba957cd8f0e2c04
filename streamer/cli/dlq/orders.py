"""What the commands that move dead letters share: their options, and how an order is surveyed, shown and done."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.dlq.options import Search, searching, tracing
from streamer.cli.dlq.report import print_survey, progress
from streamer.cli.options import NumberRange, number
from streamer.core.deadletters.replay import MAX_ATTEMPTS, Decide
from streamer.core.deadletters.state import JOB_NAME
from streamer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from streamer.ops.dlq.survey import Order, Targets

_Command = Callable[..., Any]


@dataclass(frozen=True)
class Asked(Search):
    """What all commands that move dead letters are asked: which, and when to write."""

    execute: bool
    digest: str | None
    most: int | None
    job: str | None
    as_json: bool

    @functools.cached_property
    def targets(self) -> Targets:
        """Where dead letters may go."""
        from streamer.ops.dlq.survey import Targets

        return Targets(self.log)


def moving(command: _Command) -> _Command:
    """Adds the options that say what `Asked` holds, and hands it over first."""

    @functools.wraps(command)
    def wrapper(search: Search, **given: Any) -> Any:
        own = {name: given.pop(name) for name in ("execute", "digest", "most", "job", "as_json")}
        return command(Asked(search.config, search.topics, search.selection, search.words, **own), **given)

    wrapped: _Command = wrapper
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what would be, or was, done as JSON."),
        click.option(
            "--job",
            metavar="NAME",
            help="The job's name; the same name continues it after an interruption. Default: a new one.",
        ),
        click.option("--max", "most", type=click.IntRange(1), help="Move at most this many in this job."),
        click.option(
            "--digest",
            metavar="HEX",
            help="Do exactly what the dry run with this digest showed, or nothing.",
        ),
        click.option("--execute", is_flag=True, help="Do it. Without this, nothing is written."),
    ):
        wrapped = option(wrapped)
    return searching(wrapped)


def sending(command: _Command) -> _Command:
    """Adds where to, how fast and how often."""
    for option in (
        number("--max-attempts", MAX_ATTEMPTS, "Leave out those that have failed this often."),
        click.option(
            "--rate", type=NumberRange(0, min_open=True), help="Records a second. Default: as fast as possible."
        ),
        click.option(
            "--for",
            "addressee",
            default="",
            metavar="PIPELINE",
            help="The pipeline that should read them, e.g. after a rename. Default: the one that failed.",
        ),
        click.option("--to-dead-letters", is_flag=True, help="Allow --to to name a dead-letter topic."),
        click.option(
            "--to",
            default="",
            metavar="TOPIC",
            help="Send them to this topic. Default: the one that each came from, if a pipeline of the configuration"
            " reads it.",
        ),
    ):
        command = option(command)
    return command


def signed(action: str, asked: Asked, rate: float | None = None, **more: Any) -> Order:
    """The order, under a name that a job may have. Raises UsageError."""
    from streamer.ops.dlq.orders import make_order

    if asked.job is not None and re.fullmatch(JOB_NAME, asked.job) is None:
        raise UsageError(f"--job {asked.job}: write 1 to 100 letters, digits, dots, dashes or underscores")
    return make_order(action, asked.topics, asked.selection, asked.words, asked.job, asked.most, rate, **more)


def carry_out(
    asked: Asked,
    order: Order,
    decide: Decide,
    *,
    ask: bool = False,
    moved: Callable[[], None] = lambda: None,
    models: Mapping[str, str] | None = None,
) -> int:
    """Survey, say what was found, move, and call `moved`. Returns the exit code."""
    from streamer.kafka.replay import TransactionalCopier
    from streamer.ops.dlq.move import Mover
    from streamer.ops.dlq.survey import survey

    log, targets, execute, digest = asked.log, asked.targets, asked.execute, asked.digest
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
    print_survey(order, found, as_json=asked.as_json, dry=not execute)
    if digest is not None and digest != found.digest:
        raise UsageError(
            f"--digest {digest}: what would move is not what that dry run showed (it is {found.digest} now), so nothing"
            " was moved; look at this one and name its digest"
        )
    if ask and found.total:
        execute = click.confirm("Move them now?", err=True)
    if execute and (found.total or found.resumed):
        with tracing(asked.config, log) as tracer, progress(found.total) as report:
            mover = Mover(
                log,
                order,
                decide,
                targets,
                functools.partial(TransactionalCopier, asked.config.kafka),
                progress=report,
                waiting=lambda text: click.echo(text, err=True),
                tracer=tracer,
            )
            mover.execute(found)
        moved()
        click.echo(f"{order.action}: {mover.moved:,} done, job {order.signature.job}", err=True)
    return ExitCode.SOME_FAILED if found.stay else ExitCode.DONE
