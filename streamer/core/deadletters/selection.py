"""Which dead letters are meant: a filter as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter; each field narrows it, empty and None do not. Ranges include both ends, times are milliseconds. `ids`
    are those of events, `traces` in 32 hexadecimal digits."""

    pipelines: Sequence[str] = ()
    codes: Sequence[str] = ()
    classes: Sequence[str] = ()
    origin_topics: Sequence[str] = ()
    origin_partitions: Sequence[int] = ()
    origin_offsets: tuple[int, int | None] | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    keys: Sequence[bytes] = ()
    headers: Sequence[tuple[str, bytes]] = ()
    attempts: tuple[int, int | None] | None = None
    causes: Sequence[str] = ()
    ids: Sequence[str] = ()
    traces: Sequence[str] = ()
