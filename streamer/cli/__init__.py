"""The command line: finds the command, and turns every end into a message and an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from streamer import __version__
from streamer.cli.ending import told
from streamer.errors import ExitCode

# Each command NAME is the click command called NAME in streamer.cli.NAME, imported when it is asked for: `--help` must
# be quick, and `run` must not import torch. The line is what `streamer --help` says of it.
COMMANDS: dict[str, str] = {
    "audit": "Who replayed, edited, discarded or reopened which dead letters.",
    "bench": "Measure streamer on this machine against loops of one's own.",
    "changes": "What changed since yesterday: models, configurations, members, halts.",
    "config": "Check the configuration, or show it without its secrets.",
    "console": "A web page for operators: pipelines, dead letters, replay.",
    "demo": "See it all at work on this machine, from nothing, in a minute.",
    "dlq": "Look at dead letters, find out why there are any, send them back.",
    "doctor": "Check everything that a run needs, and say how to mend what is wrong.",
    "infer": "Ask a model about the lines of a file, without Kafka.",
    "lag": "How far behind each pipeline is: records, time, and time to drain.",
    "local": "A Kafka and a Redis on this machine, to try streamer with.",
    "produce": "Write events from a file or from standard input.",
    "run": "Run pipelines: events in, results and dead letters out.",
    "status": "How each pipeline does, the worst first; the exit code says if all is well.",
    "tail": "Read results, dead letters, spans and reports.",
    "topics": "Check or create the topics that the configuration names.",
}


GC_THRESHOLDS = (100_000, 50, 50)
"""With CPython's own the cycle collector looks through what is imported, and through live records, again and again: a
seventh of a driver's start, a quarter of the time of reading a million dead letters (measured, CPython 3.11)."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"streamer.cli.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of a pipe (`| head`) went away: nothing is wrong, and nothing may be flushed to it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.DONE
        return code

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="streamer")
def cli() -> None:
    """Run a language model over a Kafka stream, in real time, and lose nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a command may return one itself."""
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        code = cli.main(args=arguments, prog_name="streamer", standalone_mode=False)
    except click.ClickException as error:
        from streamer.telemetry.logs import without_logins

        error.message = without_logins(error.message)  # an argument in a wrong place may be a URL
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.SECOND_SIGNAL
    except Exception as error:
        return told(error)
    return int(code or ExitCode.DONE)
