"""Requests to a group's coordinator, which a new cluster has yet to choose, and which loads where it moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.errors import answer, error_of

T = TypeVar("T")

REQUEST_S = 10.0
_AGAIN_S = 0.2
_LOADING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE)


def describe(admin: AdminClient, group: str) -> Any:
    """The group as its coordinator sees it, for who looks once: see `group_view`. Raises KafkaException."""
    return when_loaded(lambda: admin.describe_consumer_groups([group], request_timeout=REQUEST_S)[group])


def when_loaded(ask: Callable[[], Future[T]]) -> T:
    """The answer to a request about a group, asked again while the group's coordinator loads. Raises KafkaException."""
    return until_loaded(lambda _: answer(ask(), REQUEST_S), REQUEST_S)


def until_loaded(ask: Callable[[float], T], timeout_s: float) -> T:
    """The same of a request that is given the time that is left."""
    deadline = time.monotonic() + timeout_s
    left_s = timeout_s
    while True:
        try:
            return ask(left_s)
        except KafkaException as error:
            left_s = deadline - time.monotonic() - _AGAIN_S
            if error_of(error).code() not in _LOADING or left_s <= 0:
                raise
        time.sleep(_AGAIN_S)
