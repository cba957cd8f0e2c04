"""The command line: finds the command, and turns every end into a message and an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from streamer import __version__
from streamer.cli.ending import told, told_of_usage
from streamer.errors import ExitCode

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Each command NAME is the click command called NAME in streamer.cli.NAME, imported when it is asked for: `--help` must
# be quick, and `run` must not import torch. The line is what `streamer --help` says of it.
COMMANDS: dict[str, str] = {
    "audit": "Show who replayed, edited, discarded or reopened which dead letters.",
    "bench": "Measure streamer on this machine against simpler loops.",
    "changes": "Show what changed since yesterday: models, configurations, members, halts.",
    "completion": "Print the script that lets your shell complete commands and names.",
    "config": "Check the configuration, or show it without its secrets.",
    "console": "Serve a web page for operators: pipelines, dead letters, replay.",
    "demo": "Watch everything at work on this machine, from nothing, in a minute.",
    "dlq": "Look at dead letters, find out why they are there, and send them back.",
    "doctor": "Check everything that a run needs, and say how to fix what is wrong.",
    "evaluate": "Compare a model's answers with the labels of files, or compare two models.",
    "health": "Watch whether the models are still right: reports, feedback, alarms.",
    "infer": "Run a model over files, without Kafka.",
    "init": "Write a configuration for a model of yours.",
    "lag": "Show how far behind each pipeline is: records, time, and time to drain.",
    "load": "Write the rows of files to a topic, each once.",
    "local": "Start and stop a Kafka and a Redis on this machine, to try streamer with.",
    "model": "Look at a model before it is served, and ask it about one text.",
    "produce": "Write events to a topic, from a file or from standard input.",
    "run": "Run pipelines: events in, results and dead letters out.",
    "save": "Write results, dead letters or any topic to a file.",
    "scaler": "Tell KEDA how many replicas each pipeline needs, over gRPC.",
    "status": "Show how each pipeline does, the worst first; the exit code says if all is well.",
    "tail": "Read results, dead letters, spans and reports.",
    "topics": "Check or create the topics that the configuration names.",
}


COMPLETING = "_STREAMER_COMPLETE"
"""In the environment when a shell asks what it may complete; click reads it."""

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
        if COMPLETING in os.environ:
            from streamer.cli.completion import teach

            teach(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table: nothing needs to be imported."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=COMMANDS[name]) for name in names] or click.Command.shell_complete(
            self, ctx, incomplete
        )

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


def _color() -> bool | None:
    """None lets each stream decide: a terminal shows bold letters and colours, unless its user wants none."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a command may return one itself."""
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        code = cli.main(args=arguments, prog_name="streamer", standalone_mode=False, color=_color())
    except click.ClickException as error:
        return told_of_usage(error)
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.SECOND_SIGNAL
    except Exception as error:
        return told(error)
    return int(code or ExitCode.DONE)
