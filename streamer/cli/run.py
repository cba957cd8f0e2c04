"""`streamer run`: pipelines from input topics to results, until a signal or the end."""

from __future__ import annotations

import logging
import os
import sys
import traceback

import click

from streamer.cli.options import chosen_pipelines, config_options, loaded
from streamer.errors import ExitCode, StreamerError


@click.command()
@click.option("--pipeline", "names", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--until-end", is_flag=True, help="Stop when everything that is there now is done.")
@click.option(
    "--accept-dead-letters",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Let the breaker pass this many failures of the model: for a stretch that is known to be bad.",
)
@click.option("--siblings", type=click.IntRange(min=1), default=1, hidden=True)
@click.option("--index", type=click.IntRange(min=0), default=0, hidden=True)
@config_options
def run(
    names: tuple[str, ...],
    until_end: bool,
    accept_dead_letters: int,
    siblings: int,
    index: int,
    config_path: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
) -> ExitCode:
    """Run pipelines: take events, ask the model, settle results and dead letters.

    Several pipelines run in a process each, which this one looks after. SIGTERM or Ctrl-C stops gracefully within
    stop_deadline_s, the second one at once.
    """
    from streamer.run import Supervisor, run_pipeline
    from streamer.telemetry.logs import configure
    from streamer.workers import RunOptions

    config = loaded(config_path, overrides)
    chosen = chosen_pipelines(config, names)
    configure(config.telemetry.log_format, "debug" if verbose else config.telemetry.log_level)
    if len(chosen) == 1:
        options = RunOptions(until_end, accept_dead_letters, siblings, index)
        try:
            code = run_pipeline(config, chosen[0], options)
        except StreamerError as error:
            click.echo(f"streamer: {error}", err=True)
            code = error.exit_code
        except Exception:
            traceback.print_exc()
            code = ExitCode.BUG
        # All is closed and nothing is left to save. Leaving by the interpreter's end would run the clients'
        # destructors, which may wait for a broker that is gone, and would crash on a thread that still opens one.
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)
    arguments = [f"--set={override}" for override in overrides]
    if config_path:
        arguments.append(f"--config={config_path}")
    if verbose:
        arguments.append("--verbose")
    if until_end:
        arguments.append("--until-end")
    if accept_dead_letters:
        arguments.append(f"--accept-dead-letters={accept_dead_letters}")
    within_s = max(config.pipelines[name].stop_deadline_s for name in chosen)
    return Supervisor(chosen, arguments, within_s).run()
