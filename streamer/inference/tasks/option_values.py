"""A task's options as a configuration gives them: listed, checked and read. Nothing here imports torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from streamer.config.kinds import kind_of
from streamer.errors import ModelError
from streamer.inference.tasks.options import OPTIONS, TextOptions

_Options = TypeVar("_Options", bound=msgspec.Struct)


class Option(NamedTuple):
    """One option of a task: what a value must be, what it is where none is given (None: as the model's files say, or
    nothing), what it does and when to change it."""

    name: str
    kind: str
    default: Any
    about: str


def options_of(task: str) -> list[Option]:
    """The options of a task of `OPTIONS`, those of the task itself first."""
    fields = msgspec.structs.fields(OPTIONS[task])
    shared = TextOptions.__struct_fields__
    return [
        Option(field.name, kind_of(field.type), field.default, _about(field))
        for field in sorted(fields, key=lambda field: field.name in shared)
    ]


def _about(field: msgspec.structs.FieldInfo) -> str:
    metas = getattr(field.type, "__metadata__", ())
    return str(next(meta.extra["about"] for meta in metas if meta.extra))


def read_options(kind: type[_Options], options: dict[str, Any], task: str) -> _Options:
    """A task's options, checked. Raises `ModelError`."""
    for name, text in refusals(kind, options, task):
        raise ModelError(f"options.{name}: {text}")
    return msgspec.convert(options, kind)


def refusals(kind: type[msgspec.Struct], options: dict[str, Any], task: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a task's options: the name of each, and what it takes instead."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, value in options.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            meant = f'did you mean "{near[0]}"? ' if near else ""
            yield name, f"task {task} has no such option; {meant}it has {', '.join(fields)}"
            continue
        try:
            msgspec.convert(value, fields[name].type)
        except msgspec.ValidationError as error:
            wanted = kind_of(fields[name].type)
            yield name, f"it must be {wanted}" if wanted else str(error)
