"""`streamer run`: pipelines from input topics to results, until a signal or the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from streamer.app.growth import Growth, most_processes
from streamer.app.supervisor import Supervisor, end_with
from streamer.cli.ending import told
from streamer.cli.options import chosen_pipelines, config_options, loaded, model_of
from streamer.config.load import Config, Problem
from streamer.config.pipeline import MOST_MEMBERS
from streamer.config.seats import Seat, seats_of
from streamer.errors import ExitCode
from streamer.stopping import Stopping

if TYPE_CHECKING:
    from streamer.app.life import Show
    from streamer.telemetry.log_pipe import LogPipe

SUPERVISOR: Final = "supervisor"
MOST_COLUMN_CHARS: Final = 24

log = logging.getLogger(__name__)


@click.command()
@click.option("--pipeline", "names", multiple=True, metavar="NAME", help="Only this pipeline; may be repeated.")
@click.option(
    "--members",
    type=click.IntRange(0, MOST_MEMBERS),
    metavar="N",
    help="Run each pipeline in N processes that share its partitions, whatever the configuration says; 0 adds them as"
    " they are needed.",
)
@click.option("--until-end", is_flag=True, help="Stop once everything that was in the topics at the start is done.")
@click.option(
    "--accept-dead-letters",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Let this many failures of the model pass without a halt, for a stretch of records that is known to be bad.",
)
@click.option("--siblings", type=click.IntRange(min=1), default=1, hidden=True)
@click.option("--index", type=click.IntRange(min=0), default=0, hidden=True)
@click.option("--member", type=click.IntRange(min=0), default=0, hidden=True)
@click.option("--other", "others", type=int, multiple=True, hidden=True)
@click.option("--supervisor", type=int, default=0, hidden=True)
@click.option("--relayed", is_flag=True, hidden=True)
@config_options
def run(
    names: tuple[str, ...],
    members: int | None,
    until_end: bool,
    accept_dead_letters: int,
    siblings: int,
    index: int,
    member: int,
    others: tuple[int, ...],
    supervisor: int,
    relayed: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
) -> ExitCode:
    """Run pipelines: take events, ask the model, settle results and dead letters.

    Each pipeline runs in a process of its own if there are several, and so does each of its members. SIGTERM or Ctrl-C
    stops gracefully, within stop_deadline_s; a second signal stops at once.

    The log says when the model is loaded, which partitions are read, once a minute how it is going, and at the end what
    was done: records taken, results, dead letters by code, skipped and cached records. It is written as JSON lines
    (telemetry.log_format), except on a terminal, where the last line shows the current state.
    """
    stopping = Stopping()
    if supervisor:
        end_with(supervisor)
    from streamer.app.run import run_pipeline, serve_down
    from streamer.app.start import RunOptions
    from streamer.config.certificates import certificate_problems
    from streamer.config.otel import read
    from streamer.telemetry.logs import configure, last_words, own_pipe

    def check(config: Config) -> Iterator[Problem]:
        yield from model_of(names)(config)
        yield from read(os.environ, config.telemetry).problems
        yield from certificate_problems(config)

    config = loaded(config_path, overrides, check=check)
    chosen = chosen_pipelines(config, names)
    if members is not None:
        overrides += tuple(f"pipelines.{name}.members={members}" for name in chosen)
        config = loaded(config_path, overrides, check=check)
    seats = [Seat(chosen[0], member)] if supervisor else seats_of(config.pipelines, chosen)
    level = "debug" if verbose else config.telemetry.log_level
    column = ""
    alone = bool(supervisor) or (len(seats) == 1 and not seats[0].member)
    if supervisor or not alone:
        width = max(len(str(one)) for one in (*seats_of(config.pipelines), SUPERVISOR))
        column = (str(seats[0]) if alone else SUPERVISOR).ljust(min(width, MOST_COLUMN_CHARS))
    configure(config.telemetry.log_format, level, pipelines=chosen, member=member, column=column, terminal=relayed)
    pipe = own_pipe()

    def work() -> int:
        if alone:
            asked = RunOptions(until_end, accept_dead_letters, siblings, index, member, others, bool(supervisor))
            return run_pipeline(config, chosen[0], asked, stopping, _shown(chosen[0], pipe, relayed))

        def on_down(seat: Seat, place: int, reason: str) -> None:
            serve_down(config, seat, place, reason)

        within_s = max(config.pipelines[name].stop_deadline_s for name in chosen)
        again = _arguments(until_end, accept_dead_letters, config_path, overrides, verbose)
        relay = None
        if pipe is not None and pipe.is_terminal:
            from streamer.app.live import Relay

            relay = Relay(pipe)
        from streamer.app.workers import plans_of
        from streamer.ops.premises import memory_remarks

        for note in memory_remarks(config, plans_of(config, chosen)):
            log.warning("%s", note)
        grows = frozenset(name for name in chosen if not config.pipelines[name].members)
        growth = Growth(most_processes()) if grows else None
        return Supervisor(seats, again, within_s, stopping, until_end, on_down, relay, grows, growth).run()

    try:
        code = work()
    except Exception as error:
        code = told(error)
    # All is closed and nothing is left to save. Leaving by the interpreter's end would run the clients'
    # destructors, which may wait for a broker that is gone, and would crash on a thread that still opens one.
    last_words()
    os._exit(code)


def _shown(name: str, pipe: LogPipe | None, relayed: bool) -> Show | None:
    """What shows how the pipeline is doing: on our terminal, on the supervisor's, or nowhere."""
    if pipe is None or not (relayed or pipe.is_terminal):
        return None
    from streamer.app.live import showing, telling

    return telling(pipe) if relayed else showing(pipe, name)


def _arguments(
    until_end: bool, accept_dead_letters: int, config_path: str | None, overrides: tuple[str, ...], verbose: bool
) -> list[str]:
    """The options that a child process is started with."""
    arguments = [f"--set={override}" for override in overrides]
    if config_path:
        arguments.append(f"--config={config_path}")
    if verbose:
        arguments.append("--verbose")
    if until_end:
        arguments.append("--until-end")
    if accept_dead_letters:
        arguments.append(f"--accept-dead-letters={accept_dead_letters}")
    return arguments
