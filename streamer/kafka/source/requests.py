"""Requests that wait for the brokers, and what they wait for: where reading starts is the committed offset, or, where
there is none, what the configuration says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
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


def first_partitions(consumer: Consumer, topics: list[str], patience: Patience) -> frozenset[tuple[str, int]]:
    """The partitions that a group finds when it begins with a topic: for these alone `latest` is their end. What has
    no offset although the group has committed others of its topic came later, and is read from its start.

    To be called before the group is joined. Raises KafkaException.
    """
    found: set[tuple[str, int]] = set()
    for topic in topics:
        metadata = patience.ask(lambda timeout_s, name=topic: consumer.list_topics(name, timeout=timeout_s))  # type: ignore[misc]
        there = [TopicPartition(topic, number) for number in metadata.topics[topic].partitions]
        if not there:
            continue
        committed = patience.committed(consumer, there)
        if all(one.offset < 0 for one in committed):
            found.update((topic, one.partition) for one in there)
    return frozenset(found)


def first_offsets(consumer: Consumer, keys: Iterable[tuple[str, int]], timeout_s: float) -> list[TopicPartition]:
    """The first offsets that are there, of those partitions that there are. Raises KafkaException."""
    found = []
    for topic, number in sorted(keys):
        if number in consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions:
            low, _ = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout_s)
            found.append(TopicPartition(topic, number, low))
    return found


def start_offsets(
    consumer: Consumer,
    partitions: list[TopicPartition],
    start: str | int,
    first: frozenset[tuple[str, int]],
    patience: Patience,
) -> tuple[list[TopicPartition], list[TopicPartition]]:
    """The partitions with the offsets to read from and their metadata, and those of them that had none committed.

    To be called on the consumer's own thread. With isolation.level read_committed the broker answers only once no
    transaction of an earlier owner is pending on these offsets (KIP-447). `first` is what `first_partitions` found.
    Raises KafkaException, HeldOffsetsError where such a transaction does not end.
    """
    if not partitions:
        return [], []
    starts, fresh = [], []
    for partition in patience.committed(consumer, partitions):
        if partition.offset < 0:
            came_later = start == "latest" and (partition.topic, partition.partition) not in first
            offset = _resolve(consumer, partition, "earliest" if came_later else start, patience)
            partition = TopicPartition(partition.topic, partition.partition, offset)
            fresh.append(partition)
        starts.append(partition)
    return starts, fresh


def _resolve(consumer: Consumer, partition: TopicPartition, start: str | int, patience: Patience) -> int:
    low, high = patience.ask(lambda timeout_s: consumer.get_watermark_offsets(partition, timeout=timeout_s))
    if start == "earliest":
        return low
    if start == "latest":
        return high
    wanted = TopicPartition(partition.topic, partition.partition, int(start))
    offset = patience.ask(lambda timeout_s: consumer.offsets_for_times([wanted], timeout=timeout_s))[0].offset
    return high if offset < 0 else offset
