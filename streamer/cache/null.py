"""No shared cache."""

from __future__ import annotations

from streamer.core.pipeline.protocol import CacheAnswered
from streamer.core.record import Answer
from streamer.ports import Post


class NullCache:
    """The cache that is switched off: misses at once, keeps nothing."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def look_up(self, lookup: int, keys: list[bytes]) -> None:
        self._post(CacheAnswered(lookup, [None] * len(keys)))

    def store(self, entries: list[tuple[bytes, Answer]]) -> None:
        """Keeps nothing."""

    @property
    def available(self) -> bool:
        """Never: there is none."""
        return False

    def close(self, timeout_s: float) -> None:
        """Has nothing to close."""
