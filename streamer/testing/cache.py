"""A shared cache in a dictionary, which can be away, slow, or full of garbage."""

from __future__ import annotations

import msgspec

from streamer.core.pipeline.protocol import CacheAnswered
from streamer.core.record import Answer
from streamer.core.stored import Vault
from streamer.ports import Post
from streamer.testing.clock import ManualClock


class MemoryCache:
    """`streamer.ports.Cache`. Give the same `answers` to several for a cache that they share.

    While `available` is false it answers misses and keeps nothing, as a cache does whose server is away. While
    `delay_s` is not 0 it answers that much later on `clock`. While `garbled` is true every value that it finds had a
    byte changed, and goes through the reading of a real cache, which must not believe it.
    """

    def __init__(
        self, post: Post, answers: dict[bytes, Answer] | None = None, clock: ManualClock | None = None
    ) -> None:
        self.answers = {} if answers is None else answers
        self.available = True
        self.garbled = False
        self.delay_s = 0.0
        self._clock = clock
        self._post = post
        self._closed = False

    def look_up(self, lookup: int, keys: list[bytes]) -> None:
        """Posts `CacheAnswered`: before it returns, or `delay_s` later."""
        usable = self.available and not self._closed
        found = [self.answers.get(key) if usable else None for key in keys]
        if self.garbled:
            found = _garbled(keys, found)
        fact = CacheAnswered(lookup, found)
        if self.delay_s and self._clock is not None:
            self._clock.later(self.delay_s, lambda: self._post(fact))
        else:
            self._post(fact)

    def store(self, entries: list[tuple[bytes, Answer]]) -> None:
        """Keep these answers, to come back marked `cached`."""
        if self.available and not self._closed:
            self.answers.update((key, msgspec.structs.replace(answer, cached=True)) for key, answer in entries)

    def close(self, timeout_s: float) -> None:
        """Make each look-up a miss and drop each store from now on."""
        self._closed = True


_VAULT = Vault(bytes(32))


def _garbled(keys: list[bytes], answers: list[Answer | None]) -> list[Answer | None]:
    values: list[bytes | None] = []
    for key, answer in zip(keys, answers, strict=True):
        value = None if answer is None else _VAULT.encode([(key, answer)])[0][1]
        values.append(None if value is None else value[:-2] + bytes([value[-2] ^ 1]) + value[-1:])
    return _VAULT.decode(keys, values)
