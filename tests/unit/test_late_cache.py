"""A cache that is made while its owner goes on."""

from __future__ import annotations

import queue
import threading

import pytest

from streamer.cache.late import LateCache
from streamer.core.pipeline.protocol import CacheAnswered, Input
from streamer.core.record import Answer
from streamer.errors import ConfigurationError
from streamer.testing import MemoryCache

ANSWER = Answer(b"{}", False, False, 1)


def fail(error: Exception) -> None:
    pytest.fail(repr(error))


def test_what_is_asked_before_it_is_there_is_answered_once_it_is_in_that_order() -> None:
    inbox: queue.SimpleQueue[Input] = queue.SimpleQueue()
    made = threading.Event()

    def make() -> MemoryCache:
        assert made.wait(10)
        return MemoryCache(inbox.put, {})

    cache = LateCache(make, fail)
    cache.look_up(1, [b"a"])
    cache.store([(b"a", ANSWER)])
    cache.look_up(2, [b"a"])
    assert inbox.empty()
    assert cache.available  # an outage is something else
    made.set()
    answers = [inbox.get(timeout=10) for _ in range(2)]
    assert [(one.lookup, one.answers == [None]) for one in answers if isinstance(one, CacheAnswered)] == [
        (1, True),
        (2, False),
    ]
    cache.close(5)


def test_its_availability_is_that_of_the_cache() -> None:
    inner = MemoryCache(lambda _: None, {})
    cache = LateCache(lambda: inner, fail)
    cache.close(5)  # waits until it is made
    inner.available = False
    assert not cache.available


def test_what_its_making_raises_is_told_once_and_closing_does_not_wait() -> None:
    told: queue.SimpleQueue[Exception] = queue.SimpleQueue()
    error = ConfigurationError("no such scheme")

    def make() -> MemoryCache:
        raise error

    cache = LateCache(make, told.put)
    assert told.get(timeout=10) is error
    cache.look_up(1, [b"a"])
    cache.close(5)
    assert told.empty()


def test_what_the_cache_raises_is_the_callers() -> None:
    """Nobody would answer that look-up: who waits for it must not go on as if somebody did."""

    class Broken(MemoryCache):
        def look_up(self, lookup: int, keys: list[bytes]) -> None:
            raise LookupError

        def store(self, entries: list[tuple[bytes, Answer]]) -> None:
            raise LookupError

    cache = LateCache(lambda: Broken(lambda _: None, {}), fail)
    cache.close(5)  # waits until it is made
    with pytest.raises(LookupError):
        cache.look_up(1, [b"a"])
    with pytest.raises(LookupError):
        cache.store([(b"a", ANSWER)])
