"""Read topics from outside of any group: all partitions, committed records only, nothing committed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self, cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streamer.config.fields import KafkaConfig
from streamer.core.record import Record
from streamer.core.settle.calls import Act
from streamer.errors import ConfigurationError, DependencyError
from streamer.kafka.announced import announced, learn
from streamer.kafka.clients import make_consumer, reader_properties
from streamer.kafka.errors import (
    UNREADABLE,
    act_on_consumer,
    passes_for_reader,
    silent_error,
    start_error,
    unreadable_error,
)

Start = str | int | Mapping[tuple[str, int], int]

_BATCH = 1000
_RETRY_S = 0.1


class GrouplessConsumer:
    """A consumer in no group, of committed records, that is told of the end of each partition."""

    def __init__(self, kafka: KafkaConfig, timeout_s: float) -> None:
        self._address = kafka.bootstrap_servers
        self._timeout_s = timeout_s
        self._consumer = make_consumer({**reader_properties(kafka), "enable.partition.eof": True})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def _partitions(self, topic: str) -> list[int]:
        try:
            metadata = self._consumer.list_topics(topic, timeout=self._timeout_s)
        except KafkaException as error:
            raise start_error(error, address=self._address, operation="Read", resource=f"topic {topic}") from None
        if not learn(self._address, metadata):
            raise silent_error(self._address, announced(metadata))
        found = metadata.topics[topic]
        if found.error is not None:
            raise start_error(found.error, address=self._address, operation="Read", resource=f"topic {topic}")
        return list(found.partitions)

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            left_s = max(deadline - time.monotonic(), _RETRY_S)
            try:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=left_s)
                return low, high
            except KafkaException as error:
                # A partition that was just made, or whose leader changes, has none for a moment.
                if act_on_consumer(error) is not Act.RETRY or time.monotonic() > deadline:
                    raise start_error(
                        error, address=self._address, operation="Read", resource=f"topic {topic}"
                    ) from None
            time.sleep(_RETRY_S)

    def _is_end(self, message: Message) -> bool:
        """Whether what came in a record's place is a partition's end. Raises for what does not pass by itself."""
        error = message.error()
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF:
            return True
        if error.code() in UNREADABLE:
            raise unreadable_error(message, address=self._address)
        if not passes_for_reader(error):
            raise start_error(error, address=self._address, operation="Read", resource=f"topic {message.topic()}")
        return False


class Reader(GrouplessConsumer):
    """All partitions of some topics, from a place on, as read_committed readers see them.

    `start` is `earliest`, `latest`, or a number n ≥ 0: the last n records of each partition (transaction markers count
    as records there, so fewer may come); or the offset to begin at, by topic and partition. Raises ConfigurationError
    for a missing topic and DependencyError when the cluster does not answer within `timeout_s`.
    """

    def __init__(
        self, kafka: KafkaConfig, topics: Iterable[str], *, start: Start = "earliest", timeout_s: float = 10
    ) -> None:
        super().__init__(kafka, timeout_s)
        self._next: dict[tuple[str, int], int] = {}
        try:
            for topic in dict.fromkeys(topics):
                self._place(topic, start)
            self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in self._next.items()])
        except BaseException:
            self.close()
            raise

    @property
    def partitions(self) -> list[tuple[str, int]]:
        """What is read, by topic and partition."""
        return list(self._next)

    def poll(self, timeout_s: float) -> list[Record]:
        """What is there, waiting up to `timeout_s` for the first record; up to 1,000 records."""
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        messages = (first, *self._consumer.consume(_BATCH - 1, 0))
        return cast("list[Record]", [message for message in messages if self._is_record(message)])

    def records(self, idle_s: float | None = None) -> Iterator[Record]:
        """Records as they come; ends when none came for `idle_s` (None: never)."""
        last = time.monotonic()
        while idle_s is None or time.monotonic() - last < idle_s:
            messages = self.poll(0.2 if idle_s is None else min(0.2, idle_s))
            if messages:
                yield from messages
                last = time.monotonic()

    def read_until_end(
        self, timeout_s: float = 60, ends: Mapping[tuple[str, int], int] | None = None
    ) -> Iterator[Record]:
        """Records up to the ends found now, or up to those named and some beyond. May be called again for what came
        since.

        The end is where open transactions begin. Raises DependencyError when nothing moves for `timeout_s`.
        """
        ends = self.ends() if ends is None else ends
        moved = time.monotonic()
        while any(self._next[partition] < end for partition, end in ends.items()):
            before = dict(self._next)
            yield from self.poll(0.2)
            if self._next != before:
                moved = time.monotonic()
            elif time.monotonic() - moved > timeout_s:
                raise DependencyError(f"Kafka at {self._address} sent nothing for {timeout_s:g} s before the end")

    def ends(self) -> dict[tuple[str, int], int]:
        """The offset after the last committed record of each partition."""
        return {partition: self._watermarks(*partition)[1] for partition in self._next}

    def _place(self, topic: str, start: Start) -> None:
        for partition in self._partitions(topic):
            low, high = self._watermarks(topic, partition)
            if start == "earliest":
                offset = low
            elif start == "latest":
                offset = high
            elif isinstance(start, Mapping):
                offset = min(max(start.get((topic, partition), low), low), high)
            elif isinstance(start, int) and start >= 0:
                offset = max(low, high - start)
            else:
                raise ConfigurationError(f"can't read from {start!r}; write earliest, latest or a number of records")
            self._next[topic, partition] = offset

    def _is_record(self, message: Message) -> bool:
        """Moves on; False for the end of a partition. Raises for what does not pass by itself."""
        place = (message.topic() or "", message.partition() or 0)
        offset = message.offset() or 0
        if message.error() is None:
            self._next[place] = offset + 1
            return True
        if self._is_end(message):
            self._next[place] = offset
        return False
