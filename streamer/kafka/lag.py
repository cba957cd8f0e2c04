"""How far a group has come in its topics, and how old the first record is that it has not settled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
)
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from streamer.config_fields import KafkaConfig
from streamer.core.record import TopicPartition
from streamer.core.timestamps import written_ms
from streamer.errors import DependencyError
from streamer.kafka.clients import make_consumer, reader_properties
from streamer.kafka.errors import Act, act_on_consumer, answer, start_error
from streamer.kafka.settled import settled_offsets
from streamer.kafka.topics import connect, require

T = TypeVar("T")

REQUEST_S = 10.0
_AGAIN_S = 0.2
_LOADING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE)
_UNSUPPORTED = (KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE)
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NEWEST: OffsetSpec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]


def when_loaded(ask: Callable[[], Future[T]]) -> T:
    """The answer to a request about a group, asked again while the group's coordinator loads. Raises KafkaException."""
    return _until_loaded(lambda: answer(ask(), REQUEST_S))


def _until_loaded(ask: Callable[[], T]) -> T:
    deadline = time.monotonic() + REQUEST_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _LOADING or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_S)


class GroupOffsets:
    """Reads offsets, and timestamps of single records; joins and commits nothing.

    Raises DependencyError when the cluster does not answer, ConfigurationError for a missing topic or right.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._admin = connect(kafka)

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics."""
        return [
            (topic, number) for topic in topics for number in range(require(self._admin, self._kafka, topic).partitions)
        ]

    def committed(self, group: str, partitions: Iterable[TopicPartition] = ()) -> dict[TopicPartition, int]:
        """The offsets that the group has settled; of all partitions that it ever did when none are named."""
        asked = [KafkaPartition(*each) for each in partitions]
        try:
            found = self._committed_of(group, asked) if asked else self._committed_anywhere(group)
        except KafkaException as error:
            raise self._explained(error, "Describe", f"group {group}") from None
        return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

    def earliest(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that is still there."""
        return {each: found.offset for each, found in self._offsets(partitions, _EARLIEST).items()}

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last committed record: where open transactions begin."""
        return {each: found.offset for each, found in self._offsets(partitions, _LATEST).items()}

    def at_time(self, partitions: Iterable[TopicPartition], time_ms: int) -> dict[TopicPartition, int]:
        """The first offset of that time or later; partitions without one are left out."""
        found = self._offsets(partitions, OffsetSpec.for_timestamp(time_ms))
        return {each: info.offset for each, info in found.items() if info.offset >= 0}

    def newest_ms(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The highest timestamp in each partition, transaction markers' included; empty ones are left out, and all
        where the brokers are older than 3.0 (KIP-734)."""
        found = self._offsets(partitions, _NEWEST)
        return {each: info.timestamp for each, info in found.items() if info.timestamp >= 0}

    def first_ms(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """When the first record at or after each offset was written, in ms; 0 where it does not say.

        Partitions where only transaction markers are left have no entry.
        """
        found: dict[TopicPartition, int] = {}
        if not starts:
            return found
        # One record of each partition is wanted: what is fetched beyond it is waste.
        properties = {**reader_properties(self._kafka), "enable.partition.eof": True, "queued.min.messages": 1}
        consumer = make_consumer({**properties, "fetch.message.max.bytes": 16_384, "auto.offset.reset": "earliest"})
        try:
            consumer.assign([KafkaPartition(*place, offset) for place, offset in starts.items()])
            left = set(starts)
            deadline = time.monotonic() + REQUEST_S
            while left:
                message = consumer.poll(0.2)
                if message is None:
                    if time.monotonic() > deadline:
                        address = self._kafka.bootstrap_servers
                        raise DependencyError(f"Kafka at {address} sent no record for {REQUEST_S:g} s; ask again")
                    continue
                place = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if error is None:
                    if place in left:
                        found[place] = written_ms(message.timestamp()) or 0
                elif error.code() != KafkaError._PARTITION_EOF:
                    if act_on_consumer(error) is Act.RETRY and time.monotonic() < deadline:
                        continue
                    raise self._explained(error, "Read", f"topic {place[0]}")
                if place in left:
                    left.discard(place)
                    consumer.incremental_unassign([KafkaPartition(*place)])
        finally:
            consumer.close()
        return found

    def _committed_of(self, group: str, asked: list[KafkaPartition]) -> list[KafkaPartition]:
        return _until_loaded(lambda: settled_offsets(self._kafka, group, asked, REQUEST_S))

    def _committed_anywhere(self, group: str) -> list[KafkaPartition]:
        wanted = [ConsumerGroupTopicPartitions(group)]
        found = when_loaded(lambda: self._admin.list_consumer_group_offsets(wanted, request_timeout=REQUEST_S)[group])
        return list(found.topic_partitions)

    def _offsets(self, partitions: Iterable[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, Any]:
        asked = {KafkaPartition(*each): spec for each in partitions}
        if not asked:
            return {}
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_S
        )
        found = {}
        for each, future in futures.items():
            try:
                found[each.topic, each.partition] = answer(future, REQUEST_S)
            except KafkaException as error:
                if error.args[0].code() not in _UNSUPPORTED:
                    raise self._explained(error, "Describe", f"topic {each.topic}") from None
        return found

    def _explained(self, error: KafkaException | KafkaError, operation: str, resource: str) -> Exception:
        address = self._kafka.bootstrap_servers
        return start_error(error, address=address, operation=operation, resource=resource)
