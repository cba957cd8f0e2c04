"""Requests that wait for the brokers, and what they wait for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamer.core.settle.calls import Act
from streamer.errors import DependencyError
from streamer.kafka.errors import act_on_consumer
from streamer.kafka.settled import LOOK_S

BROKER_S = 10.0
PATIENCE_S = 60.0

T = TypeVar("T")
Beat = Callable[[float], None]
"""A sign of life: the caller's thread is fine, and may be silent for so many seconds."""
Held = Callable[[list[TopicPartition]], bool]
"""Whether the committed offsets of these partitions are there, and held by a transaction that has not ended."""

log = logging.getLogger(__name__)


class HeldOffsetsError(KafkaException):
    """A transaction that does not end holds the committed offsets that reading would start from."""


def held_error(group: str) -> DependencyError:
    """Such a transaction, and how people end it."""
    return DependencyError(
        f"a transaction that does not end holds the committed offsets of group {group}, where reading would start. "
        "Brokers end one whose process died within its transaction.timeout.ms and 10 s more. They have lost the end of "
        "one that stays, as may happen when all replicas of a partition stop at once: kafka-transactions.sh "
        "find-hanging names it, and abort ends it"
    )


class Patience:
    """Repeats requests while the brokers are away, on the consumer's own thread. Raises KafkaException once
    `PATIENCE_S` have passed, and at once for what does not pass."""

    def __init__(self, beat: Beat, held: Held) -> None:
        self._beat = beat
        self._held = held

    def ask(self, request: Callable[[float], T]) -> T:
        """The answer to a request that is given its time limit in seconds."""
        return self._ask(request, lambda: False)

    def committed(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The committed offsets, once no transaction is open on them."""
        return self._ask(
            lambda timeout_s: consumer.committed(partitions, timeout=timeout_s), lambda: self._held(partitions)
        )

    def _ask(self, request: Callable[[float], T], held: Callable[[], bool]) -> T:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self._beat(BROKER_S)
            try:
                return request(BROKER_S)
            except KafkaException as error:
                if act_on_consumer(error) is not Act.RETRY:
                    raise
                self._beat(LOOK_S)
                is_held = held()
                if time.monotonic() > deadline:
                    raise HeldOffsetsError(error.args[0]) if is_held else error from None
                waits_for = "a transaction on the committed offsets to end" if is_held else "the brokers to answer"
                log.warning(f"waiting for {waits_for}", extra={"data": {"error": error.args[0].name()}})
                time.sleep(0.1)
