"""What the shared cache counts."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class CacheEvent(StrEnum):
    """What the shared cache counts, each in keys."""

    HIT = "hit"
    MISS = "miss"
    REJECTED = "rejected"  # a value was there that we have not written for this key: a miss
    UNAVAILABLE = "unavailable"  # answered as a miss without having heard from Redis
    STORED = "stored"
    STORE_DROPPED = "store_dropped"  # queue full, stores suspended, value too large, or closing
    STORE_FAILED = "store_failed"


OnEvent = Callable[[CacheEvent, int], None]
"""Called with an event and its number of keys, from any of the cache's threads and from the caller's."""


def ignore(_event: CacheEvent, _keys: int) -> None:
    """Count nothing."""
