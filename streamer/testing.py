"""Public fakes: stand-ins for the world around a pipeline, for tests that need neither servers nor a model."""

from __future__ import annotations

import msgspec

from streamer.core.pipeline.protocol import CacheAnswered
from streamer.core.record import Answer
from streamer.ports import Post


class MemoryCache:
    """A shared cache in a dictionary. Give the same `answers` to several for a cache that they share.

    While `available` is false it answers misses and keeps nothing, as a cache does whose server is away.
    """

    def __init__(self, post: Post, answers: dict[bytes, Answer] | None = None) -> None:
        self.answers = {} if answers is None else answers
        self.available = True
        self._post = post
        self._closed = False

    def look_up(self, lookup: int, keys: list[bytes]) -> None:
        """Posts `CacheAnswered` before it returns."""
        usable = self.available and not self._closed
        self._post(CacheAnswered(lookup, [self.answers.get(key) if usable else None for key in keys]))

    def store(self, entries: list[tuple[bytes, Answer]]) -> None:
        """Keep these answers, to come back marked `cached`."""
        if self.available and not self._closed:
            self.answers.update((key, msgspec.structs.replace(answer, cached=True)) for key, answer in entries)

    def close(self, timeout_s: float) -> None:  # noqa: ARG002 - as the port has it
        """From now on a look-up is a miss and a store is dropped."""
        self._closed = True
