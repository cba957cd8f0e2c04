"""What `--help` says, of every command and option: complete sentences in plain English."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import click
import pytest

from streamer.cli import COMMANDS

NOT_OUR_WORDS = re.compile(r"\b[Mm]end(s|ed|ing)?\b")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups and what is below them included."""

    def below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            for one, child in command.commands.items():
                yield from below(f"{name} {one}", child)

    for name in COMMANDS:
        yield from below(name, getattr(importlib.import_module(f"streamer.cli.{name}"), name))


def texts() -> Iterator[tuple[str, str]]:
    """Every text with its place: the table's lines, the commands' help, and that of options which are shown."""
    yield from ((f"streamer --help: {name}", line) for name, line in COMMANDS.items())
    for name, command in commands():
        if command.hidden:
            continue
        yield name, command.help or ""
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                yield f"{name} {param.opts[-1]}", param.help or ""


def test_help_is_written_in_sentences() -> None:
    """Each text is there, starts with a capital and ends with a full stop, and "fix" is how we say it."""
    wrong = []
    for place, text in texts():
        first, *more = re.split(r"\n\s*\n", text.strip())
        ends = [first, *(paragraph for paragraph in more if not paragraph.lstrip().startswith("\b"))]
        if not re.match(r"[A-Z]", first) or not all(end.rstrip().endswith((".", ":")) for end in ends):
            wrong.append(f"{place}: {first!r} is no sentence")
        if NOT_OUR_WORDS.search(text):
            wrong.append(f"{place}: {text!r} says mend")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["siblings", "index", "supervisor"])
def test_what_children_are_told_is_not_shown(name: str) -> None:
    """Options that only `run` itself gives are in no help."""
    run = dict(commands())["run"]
    (option,) = [param for param in run.params if param.name == name]
    assert isinstance(option, click.Option)
    assert option.hidden
