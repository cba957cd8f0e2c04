"""What `--help` says, of every command and option: complete sentences in plain English."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from streamer.cli import COMMANDS

ROOT = Path(__file__).parents[2]
# A command line in the texts: in backticks, or a line of a code block of its own.
NAMED = re.compile(r"`streamer ([^`\n]+)`|^(?:echo .* \| )?streamer ([^`\n]+)$", re.MULTILINE)
WORDS = re.compile(r"[a-z][a-z-]*(?:\\?\|[a-z]+)*")
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


def wrong_of(line: str) -> str:
    """What of a command line, as texts quote it, does not exist; "" if all does. `a|b` stands for each of them."""
    first, *more = line.split("#")[0].split()
    if not WORDS.fullmatch(first):
        return ""
    for name in re.split(r"\\?\|", first):
        if name not in COMMANDS:
            return f"there is no command {name}"
        command = dict(commands())[name]
        words = list(more)
        while isinstance(command, click.Group) and words and WORDS.fullmatch(words[0]):
            children = re.split(r"\\?\|", words.pop(0))
            if unknown := [child for child in children if child not in command.commands]:
                return f"{name} has no command {unknown[0]}"
            command = command.commands[children[0]]
        known = {opt for param in command.params for opt in param.opts} | {"--help", "-h"}
        if not isinstance(command, click.Group):
            for word in words:
                option = re.match(r"--?[a-z][a-z-]*", word.split("=")[0])
                if option and option[0] not in known:
                    return f"{name} has no option {option[0]}"
    return ""


def test_what_texts_name_exists() -> None:
    """Commands and options that the documentation, messages and help tell people to use."""
    texts = [
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "deploy/RUNBOOK.md",
        *(ROOT / "streamer").rglob("*.py"),
    ]
    wrong, seen = [], 0
    for path in texts:
        for quoted in NAMED.finditer(path.read_text()):
            line = quoted[1] or quoted[2]
            seen += 1
            if found := wrong_of(line):
                wrong.append(f"{path.relative_to(ROOT)}: `streamer {line}`: {found}")
    assert seen > 100
    assert not wrong, "\n".join(wrong)
