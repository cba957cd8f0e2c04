"""The names of a network's classes as config.json has them, and what the prefixes of entity labels say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from streamer.errors import ModelError

_PREFIXED = re.compile(r"[BIELSU]-", re.ASCII)


class Tag(NamedTuple):
    """An entity's name without its prefix; whether a token of this label begins one, and whether it ends one."""

    name: str
    begins: bool
    ends: bool


def class_names(config: Any) -> list[str]:
    """The name of each class. Raises `ModelError` where the numbers of id2label are not 0 to n - 1."""
    names = config.id2label
    lacking = next((number for number in range(len(names)) if number not in names), None)
    if lacking is not None:
        raise ModelError(
            f"config.json of the model: id2label names {len(names)} classes, but not class {lacking}; number them from"
            " 0 on, one name for each output of the network"
        )
    return [str(names[number]) for number in range(len(names))]


def tags(labels: Sequence[str]) -> list[Tag]:
    """What each label says: B- begins an entity, I- goes on with one.

    Where all labels but O have a prefix, and some name has E-, L-, S- or U- beside another, those count too (BIOES,
    BILOU): E- and L- end an entity, S- and U- are one of a single token. Transformers' pipeline knows B- and I- alone.
    """
    marked = {label for label in labels if label != "O"}
    prefixes = "BI"
    if all(map(_PREFIXED.match, marked)) and len({label[2:] for label in marked}) < len(marked):
        prefixes = "BIELSU"
    return [_tag(label, prefixes) for label in labels]


def entities(found: Sequence[Tag]) -> Iterator[tuple[int, int]]:
    """First and last place of each entity in a row of tags; what is outside of entities is joined likewise."""
    first = 0
    for place in range(1, len(found) + 1):
        if place == len(found) or _parts(found[place - 1], found[place]):
            yield first, place - 1
            first = place


def _tag(label: str, prefixes: str) -> Tag:
    if label[1:2] != "-" or label[0] not in prefixes:
        return Tag(label, False, False)
    return Tag(label[2:], label[0] in "BSU", label[0] in "ELSU")


def _parts(one: Tag, other: Tag) -> bool:
    return one.ends or other.begins or one.name != other.name
