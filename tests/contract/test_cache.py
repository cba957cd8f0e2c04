"""What every cache keeps to: the one in memory, the one in Redis, and one that is made late."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamer.cache.late import LateCache
from streamer.cache.redis_cache import RedisCache
from streamer.core.pipeline.protocol import CacheAnswered, Input
from streamer.core.record import Answer
from streamer.core.stored import Vault
from streamer.ports import Cache, Post
from streamer.testing import MemoryCache

VAULT = Vault(b"of these tests")
MakeCache = Callable[[Post], Cache]


class User:
    """Uses a cache as the driver does: asks, and reads the answers from an inbox."""

    def __init__(self, make: MakeCache) -> None:
        self.inbox: queue.SimpleQueue[Input] = queue.SimpleQueue()
        self.cache = make(self.inbox.put)

    def look_up(self, keys: list[bytes], number: int = 1) -> list[Answer | None]:
        self.cache.look_up(number, keys)
        answered = self.inbox.get(timeout=5)
        assert isinstance(answered, CacheAnswered)
        assert answered.lookup == number
        return answered.answers

    def wait_for(self, key: bytes) -> None:
        """Stores end when they can: ask until the key is there."""
        deadline = time.monotonic() + 5
        while self.look_up([key]) == [None]:
            assert time.monotonic() < deadline, "the answer never came into the cache"


def fail(error: Exception) -> None:
    raise error


@pytest.fixture(params=["memory", "redis", "late"])
def make_cache(request: pytest.FixtureRequest) -> MakeCache:
    if request.param == "memory":
        shared: dict[bytes, Answer] = {}
        return lambda post: MemoryCache(post, shared)
    url = request.getfixturevalue("redis").url
    # A generous time limit: these tests are about what is answered, not about when.
    make: Callable[[Post], RedisCache] = lambda post: RedisCache(url, VAULT, ttl_s=60, post=post, timeout_s=5.0)  # noqa: E731
    return make if request.param == "redis" else lambda post: LateCache(lambda: make(post), fail)


@pytest.fixture
def user(make_cache: MakeCache) -> Iterator[User]:
    user = User(make_cache)
    yield user
    user.cache.close(5)


def new_key() -> bytes:
    return os.urandom(32)


def test_an_unknown_key_is_a_miss(user: User) -> None:
    """Keys that nobody stored come back as None, one a key."""
    assert user.look_up([new_key(), new_key()]) == [None, None]


@pytest.mark.parametrize("output", [b'{"label":"POSITIVE"}', b"[0.1,-2e-3]", b'""', b"null", b"true", '"é"'.encode()])
def test_a_stored_answer_comes_back_marked_as_cached(user: User, output: bytes) -> None:
    """Everything of the answer comes back, and `cached` is true."""
    key = new_key()
    user.cache.store([(key, Answer(output, truncated=True, tokens=70_000))])
    user.wait_for(key)
    assert user.look_up([key]) == [Answer(output, truncated=True, cached=True, tokens=70_000)]


def test_answers_come_in_the_order_of_the_keys(user: User) -> None:
    """Hits and misses stand where their keys stood, also where a key comes twice."""
    keys = [new_key() for _ in range(3)]
    user.cache.store([(key, Answer(b"%d" % number)) for number, key in enumerate(keys)])
    user.wait_for(keys[-1])
    found = user.look_up([keys[2], new_key(), keys[0], keys[1], keys[2]])
    assert [answer and answer.output for answer in found] == [b"2", None, b"0", b"1", b"2"]


def test_a_later_store_replaces_an_earlier_one(user: User) -> None:
    """The newest answer under a key is the one that comes back."""
    key, other = new_key(), new_key()
    user.cache.store([(key, Answer(b"1"))])
    user.cache.store([(key, Answer(b"2")), (other, Answer(b"3"))])
    user.wait_for(other)
    assert [answer and answer.output for answer in user.look_up([key])] == [b"2"]


def test_two_caches_share_their_answers(make_cache: MakeCache, user: User) -> None:
    """What one process stored, another finds."""
    key = new_key()
    user.cache.store([(key, Answer(b"1"))])
    user.wait_for(key)
    second = User(make_cache)
    try:
        assert second.look_up([key]) == [Answer(b"1", cached=True)]
    finally:
        second.cache.close(5)


def test_a_large_batch_is_stored_whole(user: User) -> None:
    """More keys than one script takes are all there afterwards."""
    entries = [(new_key(), Answer(b"%d" % number)) for number in range(12_001)]
    user.cache.store(entries)
    user.wait_for(entries[-1][0])
    found = user.look_up([key for key, _ in entries])
    assert [answer and answer.output for answer in found] == [answer.output for _, answer in entries]


def test_a_look_up_without_keys_is_answered(user: User) -> None:
    """Nothing asked, nothing found, but answered."""
    assert user.look_up([]) == []


def test_each_look_up_is_answered_once(user: User) -> None:
    """Many look-ups at once: one answer each, none twice."""
    for number in range(200):
        user.cache.look_up(number, [new_key()] * 3)
    answered: list[Any] = [user.inbox.get(timeout=10) for _ in range(200)]
    assert sorted(one.lookup for one in answered) == list(range(200))
    assert all(one.answers == [None] * 3 for one in answered)
    assert user.inbox.empty()


def test_a_closed_cache_still_answers(user: User) -> None:
    """After close a look-up is a miss and a store is nothing; neither raises, and closing twice is harmless."""
    user.cache.close(5)
    user.cache.store([(new_key(), Answer(b"1"))])
    assert user.look_up([new_key()]) == [None]
    user.cache.close(5)
