"""A model's own JSON files, read strictly into values; what is wrong is said with the file's name and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streamer.errors import ModelError

_Read = TypeVar("_Read")


def read(path: Path, file: str, kind: type[_Read]) -> _Read:
    """The file below the model's directory as `kind`. Raises `ModelError`."""
    return parse((path / file).read_bytes(), file, kind)


def parse(data: bytes, file: str, kind: type[_Read]) -> _Read:
    """A file's JSON as `kind`. Raises `ModelError` with its name and field."""
    try:
        return msgspec.convert(json.loads(data), kind)  # not msgspec's decoder: Python's writes Infinity
    except ValueError as error:
        raise ModelError(f"{file} of the model: {error}") from None


def first_of(path: Path, folder: str, names: tuple[str, ...]) -> str | None:
    """The first of the files in `folder` that holds anything, as a path below the model's directory."""
    for name in names:
        file = join(folder, name)
        if (path / file).is_file() and read(path, file, dict[str, Any]):
            return file
    return None


def join(folder: str, name: str) -> str:
    """A file's path below the model's directory; `folder` is "" for that itself."""
    return f"{folder}/{name}" if folder else name
