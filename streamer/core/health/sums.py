"""Sums of parts that are alike, whatever they are made of: what is counted in each part is counted in their sum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce
from itertools import zip_longest
from typing import Any, TypeVar

from streamer.core.report import Histogram

_Part = TypeVar("_Part")


def added(parts: Sequence[_Part | None]) -> _Part | None:
    """Numbers are added, lists place by place, dicts by key, structs and named tuples field by field. None is left out,
    and is the sum where there is nothing else."""
    sum_: _Part | None = _added([part for part in parts if part is not None])
    return sum_


def _added(parts: Sequence[Any]) -> Any:
    first = parts[0] if parts else None
    match first:
        case None:
            return None
        case int() | float():
            return sum(parts)
        case dict():
            by_key: defaultdict[Any, list[Any]] = defaultdict(list)
            for part in parts:
                for key, value in part.items():
                    by_key[key].append(value)
            return {key: _added(values) for key, values in by_key.items()}
        case list():
            return [added(column) for column in zip_longest(*parts)]
        case tuple():
            return type(first)(*map(_added, zip(*parts, strict=True)))
        case Histogram():
            counts = _added([dict(part.counts) for part in parts])
            return Histogram(sorted(counts.items()), sum([part.sum for part in parts]), max(part.max for part in parts))
    if hasattr(first, "merge"):  # it knows better
        return reduce(type(first).merge, parts)
    return type(first)(*(added([getattr(part, name) for part in parts]) for name in first.__struct_fields__))
