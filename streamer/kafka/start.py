"""Where reading starts: the committed offset, or, where there is none, what the configuration says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamer.kafka.errors import Act, act_on_consumer

BROKER_S = 10.0
PATIENCE_S = 60.0

T = TypeVar("T")
Beat = Callable[[float], None]
"""A sign of life: the caller's thread is fine, and may be silent for so many seconds."""

log = logging.getLogger(__name__)


def first_partitions(consumer: Consumer, topics: list[str], beat: Beat) -> frozenset[tuple[str, int]]:
    """The partitions that a group finds when it begins with a topic: for these alone `latest` is their end. What has
    no offset although the group has committed others of its topic came later, and is read from its start.

    To be called before the group is joined. Raises KafkaException.
    """
    found: set[tuple[str, int]] = set()
    for topic in topics:
        metadata = _patiently(lambda name=topic: consumer.list_topics(name, timeout=BROKER_S), beat)  # type: ignore[misc]
        there = [TopicPartition(topic, number) for number in metadata.topics[topic].partitions]
        if not there:
            continue
        committed = _patiently(lambda asked=there: consumer.committed(asked, timeout=BROKER_S), beat)  # type: ignore[misc]
        if all(one.offset < 0 for one in committed):
            found.update((topic, one.partition) for one in there)
    return frozenset(found)


def start_offsets(
    consumer: Consumer,
    partitions: list[TopicPartition],
    start: str | int,
    first: frozenset[tuple[str, int]],
    beat: Beat,
) -> tuple[list[TopicPartition], list[TopicPartition]]:
    """The partitions with the offsets to read from and their metadata, and those of them that had none committed.

    To be called on the consumer's own thread. With isolation.level read_committed the broker answers only once no
    transaction of an earlier owner is pending on these offsets (KIP-447). `first` is what `first_partitions` found.
    Raises KafkaException.
    """
    if not partitions:
        return [], []
    starts, fresh = [], []
    for partition in _patiently(lambda: consumer.committed(partitions, timeout=BROKER_S), beat):
        if partition.offset < 0:
            came_later = start == "latest" and (partition.topic, partition.partition) not in first
            offset = _resolve(consumer, partition, "earliest" if came_later else start, beat)
            partition = TopicPartition(partition.topic, partition.partition, offset)
            fresh.append(partition)
        starts.append(partition)
    return starts, fresh


def _resolve(consumer: Consumer, partition: TopicPartition, start: str | int, beat: Beat) -> int:
    low, high = _patiently(lambda: consumer.get_watermark_offsets(partition, timeout=BROKER_S), beat)
    if start == "earliest":
        return low
    if start == "latest":
        return high
    wanted = TopicPartition(partition.topic, partition.partition, int(start))
    offset = _patiently(lambda: consumer.offsets_for_times([wanted], timeout=BROKER_S), beat)[0].offset
    return high if offset < 0 else offset


def _patiently(call: Callable[[], T], beat: Beat) -> T:
    """Repeat a request while the broker is away."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        beat(BROKER_S)
        try:
            return call()
        except KafkaException as error:
            if act_on_consumer(error) is not Act.RETRY or time.monotonic() > deadline:
                raise
            log.warning("the broker does not answer yet", extra={"data": {"error": error.args[0].name()}})
            time.sleep(0.1)
