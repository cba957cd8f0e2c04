"""Finds the results of events in an output topic, without reading it: results lie in input order, on the event's
partition number, so that a search by interpolation finds the place in a few reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.config.fields import KafkaConfig
from streamer.core.health.join import Absent, Result
from streamer.core.settle.calls import Act
from streamer.errors import DependencyError
from streamer.kafka.clients import make_consumer, reader_properties
from streamer.kafka.errors import UNREADABLE, act_on_consumer, start_error, unreadable_error

SCAN_OFFSETS: Final = 400
"""A stretch so short is read, not searched. Transactions' markers count."""
PATIENCE_S: Final = 10.0
_BATCH: Final = 200
_WAIT_S: Final = 0.05
_BISECT_EVERY: Final = 3
"""Each third step halves what is left: interpolation alone is slow where a few dead letters are most of a stretch."""

_decode = msgspec.json.Decoder(Result).decode


class _At(NamedTuple):
    """A result, where it lies, and the offset of its event."""

    offset: int
    event: int
    result: Result


class ResultLookUp:
    """Reads committed results, in no group. One thread at a time calls it."""

    def __init__(self, kafka: KafkaConfig, timeout_s: float = 10) -> None:
        self._address, self._timeout_s = kafka.bootstrap_servers, timeout_s
        settings = {"enable.partition.eof": True, "fetch.message.max.bytes": 131_072, "queued.min.messages": 1}
        self._consumer: Consumer = make_consumer({**reader_properties(kafka), **settings})

    def __enter__(self) -> ResultLookUp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def find(self, output: str, partition: int, topic: str, events: Sequence[int]) -> list[Result | Absent]:
        """The results of events by their offsets, ascending, in a partition of an input topic.

        Raises DependencyError when the cluster does not answer, ConfigurationError for a missing topic or right.
        """
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(output, partition), timeout=self._timeout_s)
        except KafkaException as error:
            raise start_error(error, address=self._address, resource=f"topic {output}") from None
        search = _Search(self, output, partition, topic, low, high)
        return [search.find(event) for event in events]

    def read(self, output: str, partition: int, topic: str, start: int, end: int) -> list[_At]:
        """Some results of one input topic from an offset on, the first there is among them; none where none lies
        before `end`."""
        self._consumer.assign([TopicPartition(output, partition, start)])
        came = time.monotonic()
        while time.monotonic() - came < PATIENCE_S:
            first = self._consumer.poll(_WAIT_S)  # `consume` would wait for a whole batch
            messages = [] if first is None else [first, *self._consumer.consume(_BATCH - 1, 0)]
            found: list[_At] = []
            for message in messages:
                if (error := message.error()) is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        return found
                    if error.code() in UNREADABLE:
                        raise unreadable_error(message, address=self._address)
                    if act_on_consumer(error) is not Act.RETRY:
                        raise start_error(error, address=self._address, operation="Read", resource=f"topic {output}")
                    continue
                came = time.monotonic()
                offset = message.offset() or 0
                if offset >= end:
                    return found
                if (at := _result(offset, message.value(), topic)) is not None:
                    found.append(at)
            if found:
                return found
        raise DependencyError(f"Kafka at {self._address} sent nothing of topic {output} for {PATIENCE_S:g} s")


class _Search:
    """What is known of one partition while events are looked up in ascending order."""

    def __init__(self, look_up: ResultLookUp, output: str, partition: int, topic: str, low: int, high: int) -> None:
        self._read: Callable[[int, int], list[_At]] = partial(look_up.read, output, partition, topic)
        self._high = high
        # All events before `_low_event` lie before offset `_low`.
        self._low, self._low_event = low, -1
        self._ahead: list[_At] = []

    def find(self, event: int) -> Result | Absent:
        low, low_event, high, high_event = self._low, self._low_event, self._high, -1
        found = self._known(event)
        steps = 0
        while found is None:
            if high - low <= SCAN_OFFSETS or (low_event < 0 and steps == 0):
                start = low
            elif high_event < 0 or steps % _BISECT_EVERY == _BISECT_EVERY - 1:
                start = (low + high) // 2
            else:
                share = (event - low_event) / max(high_event - low_event, 1)
                start = min(max(low + int((high - low) * share) - SCAN_OFFSETS // 4, low), high - 1)
            steps += 1
            batch = self._read(start, high)
            if batch and batch[0].event <= event:
                self._ahead = batch
                found = self._known(event)
                low, low_event = batch[-1].offset + 1, batch[-1].event
                self._low, self._low_event = low, low_event
            elif start <= low:  # nothing of these events lies between
                return Absent(yet=not batch and high_event < 0)
            else:
                high = start
                high_event = batch[0].event if batch else high_event
        return found

    def _known(self, event: int) -> Result | Absent | None:
        """What the last batch says of an event, None where it lies behind it."""
        if not self._ahead or not self._ahead[0].event <= event <= self._ahead[-1].event:
            return None
        # Under at_least_once a result may come twice; the later one is what a reader sees last.
        same = [at.result for at in self._ahead if at.event == event]
        return same[-1] if same else Absent(yet=False)


def _result(offset: int, value: bytes | None, topic: str) -> _At | None:
    try:
        result = _decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # another program's record
        return None
    return _At(offset, result.source.offset, result) if result.source.topic == topic else None
