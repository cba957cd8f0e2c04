"""The real Kafka and Redis of the tests, one of each for a whole session.

In order of choice: the addresses in STREAMER_TEST_KAFKA and STREAMER_TEST_REDIS, containers where a Docker engine
answers, processes of streamer.local.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from streamer.local import Stack


@dataclass(frozen=True, slots=True)
class Kafka:
    """A Kafka for the tests."""

    bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis for the tests."""

    url: str


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A running Kafka of one broker, shared by all tests: give topics and groups names of their own."""
    if given := os.environ.get("STREAMER_TEST_KAFKA"):
        yield Kafka(given)
        return
    with Stack.start(redis=False) as stack:
        yield Kafka(stack.bootstrap_servers)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A running Redis, shared by all tests: give keys a prefix of their own."""
    if given := os.environ.get("STREAMER_TEST_REDIS"):
        yield Redis(given)
        return
    with Stack.start(kafka=False) as stack:
        assert stack.redis_url is not None
        yield Redis(stack.redis_url)
