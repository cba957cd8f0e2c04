"""`streamer completion`: the shell completes commands, options, and the names that the configuration knows.

No broker is asked, and no model is loaded: what is completed is known from files alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from streamer.config.load import Config
from streamer.errors import StreamerError, UsageError

SHELLS = ("bash", "fish", "zsh")

_Names = Callable[[Config], Iterable[str]]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the script that teaches your shell to complete streamer's commands, options and names.

    The default of SHELL is $SHELL. To have it in each new shell, add this line:

    \b
    bash, to ~/.bashrc:                      eval "$(streamer completion bash)"
    zsh, to ~/.zshrc:                        eval "$(streamer completion zsh)"
    fish, to ~/.config/fish/config.fish:     streamer completion fish | source

    Names of pipelines and topics come from the configuration that --config names, or from ./streamer.toml.
    """
    from streamer.cli import COMPLETING, cli

    name = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(name) if name in SHELLS else None
    if kind is None:
        raise UsageError(f"which shell? Name one of {', '.join(SHELLS)}, e.g. streamer completion bash.")
    click.echo(kind(cli, {}, "streamer", COMPLETING).source())


def teach(command: click.Command, *, dead_letters: bool = False) -> None:
    """Give the parameters of `command`, and of all below it, the names that they may be completed to."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            teach(one, dead_letters=dead_letters or command.name == "dlq")
    for param in command.params:
        called = {*param.opts, param.name}
        if "--pipeline" in called:
            param.type = _Named(_pipelines)
        elif "--task" in called:
            param.type = _Named(_tasks)
        elif called & {"topic", "topics", "where", "--topic"}:
            param.type = _Named(_dead_letter_topics if dead_letters else _topics)
        elif called & {"files", "--config", "--errors"} or (command.name == "infer" and "--output" in called):
            param.type = click.Path()


class _Named(click.types.StringParamType):
    """A text that is completed to one of the names that the configuration in reach makes possible."""

    def __init__(self, names: _Names) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that match. None where the configuration can't be read: this is not the place to say why."""
        from streamer.config.load import load

        try:
            config = load(ctx.params.get("config_path"), os.environ, ctx.params.get("overrides") or ())
        except StreamerError:
            config = Config()
        given = ctx.params.get(param.name or "") or ()
        return [
            CompletionItem(name)
            for name in dict.fromkeys(self._names(config))
            if name.startswith(incomplete) and (name not in given or isinstance(given, str))
        ]


def _pipelines(config: Config) -> Iterable[str]:
    return config.pipelines


def _tasks(_config: Config) -> Iterable[str]:
    from streamer.inference.tasks.families import TASKS

    return TASKS


def _dead_letter_topics(config: Config) -> Iterable[str]:
    return (pipeline.dead_letter for pipeline in config.pipelines.values())


def _topics(config: Config) -> Iterable[str]:
    for pipeline in config.pipelines.values():
        yield from pipeline.input
        yield pipeline.output
    yield from _dead_letter_topics(config)
    if config.pipelines:
        yield from filter(None, (config.telemetry.reports, config.telemetry.spans))
