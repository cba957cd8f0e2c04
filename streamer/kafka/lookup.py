"""Finds the results of events in an output topic, without reading it: results lie in input order, on the event's
partition number, so that a search by interpolation finds the place in a few reads, and in one where enough is known of
that partition. Events that lie close together are read in one go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.config.fields import KafkaConfig
from streamer.core.health.feedback.join import Absent, Result
from streamer.core.health.feedback.landmarks import Landmarks, Stretch
from streamer.errors import DependencyError
from streamer.kafka.clients import make_consumer, reader_properties
from streamer.kafka.errors import UNREADABLE, passes_for_reader, start_error, unreadable_error

SCAN_OFFSETS: Final = 400
"""A stretch so short is read, not searched. Transactions' markers count."""
READ_ON_OFFSETS: Final = 1_000
"""So many are passed over by reading them: a seek takes as long."""
PATIENCE_S: Final = 10.0
_BATCH: Final = 200
_WAIT_S: Final = 0.05
_BISECT_EVERY: Final = 3
"""Each third step halves what is left: interpolation alone is slow where a few dead letters are most of a stretch."""
_SETTINGS: Final = {
    "enable.partition.eof": True,
    "fetch.message.max.bytes": 65_536,
    "fetch.wait.max.ms": 10,  # how long it takes to learn that a partition ends; nothing is assigned between look-ups
    "queued.min.messages": 1,
    "queued.max.messages.kbytes": 4_096,
}

_decode = msgspec.json.Decoder(Result).decode


class _Origin(msgspec.Struct):
    topic: str
    partition: int
    offset: int


class _Head(msgspec.Struct):
    source: _Origin


_decode_head = msgspec.json.Decoder(_Head).decode


class _At(NamedTuple):
    """A result, where it lies, and the offset of its event."""

    offset: int
    event: int
    value: bytes


class Source(NamedTuple):
    """An input partition."""

    topic: str
    partition: int


Plain = Callable[[Any], bytes]
"""Makes JSON of a record that is a result, whatever its format."""

Known = dict[tuple[str, int, Source], Landmarks]
"""What is known of each output partition, by input partition."""


class ResultLookUp:
    """Reads committed results, in no group. One thread at a time calls it. Several may share what is `known`."""

    def __init__(
        self, kafka: KafkaConfig, known: Known | None = None, timeout_s: float = 10, plain: Plain | None = None
    ) -> None:
        self._address, self._timeout_s = kafka.bootstrap_servers, timeout_s
        self._known: Known = {} if known is None else known
        self._consumer: Consumer = make_consumer({**reader_properties(kafka), **_SETTINGS})
        self._next: tuple[str, int, int] | None = None
        self._plain: Plain = plain or (lambda record: record.value() or b"")
        self._lock = threading.Lock()

    def __enter__(self) -> ResultLookUp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave Kafka, when a search that goes on is over."""
        with self._lock:
            self._consumer.close()

    def find_by_key(self, output: str, source: Source, events: Sequence[int]) -> list[Result | Absent]:
        """As `find`, of results that went by key: to any partition. In each of them those of an input partition are in
        order, so one that has results of later events, and not of this, never gets it. Raises what `find` raises."""
        try:
            known = self._consumer.list_topics(output, timeout=self._timeout_s).topics[output]
        except KafkaException as error:
            raise start_error(error, address=self._address, resource=f"topic {output}") from None
        if known.error is not None:
            raise start_error(known.error, address=self._address, resource=f"topic {output}")
        found: dict[int, Result] = {}
        coming: set[int] = set()
        for partition in sorted(known.partitions):
            left = [event for event in events if event not in found]
            for event, result in zip(left, self.find(output, partition, source, left) if left else (), strict=True):
                if isinstance(result, Result):
                    found[event] = result
                elif result.yet:
                    coming.add(event)
        return [found.get(event) or Absent(yet=event in coming) for event in events]

    def find(self, output: str, partition: int, source: Source, events: Sequence[int]) -> list[Result | Absent]:
        """The results of events, by their offsets in an input partition, ascending, in an output partition.

        None has come yet in a partition that the topic does not have. Raises DependencyError when the cluster does not
        answer, ConfigurationError for a missing topic or right.
        """
        with self._lock:
            try:
                place = TopicPartition(output, partition)
                low, high = self._consumer.get_watermark_offsets(place, timeout=self._timeout_s)
            except KafkaException as error:
                if error.args[0].code() == KafkaError._UNKNOWN_PARTITION:
                    return [Absent(yet=True) for _ in events]
                raise start_error(error, address=self._address, resource=f"topic {output}") from None
            known = self._known.setdefault((output, partition, source), Landmarks())
            search = _Search(partial(self.read, output, partition, source), known, low, high)
            try:
                return [search.find(event) for event in events]
            finally:
                self._next = None
                self._consumer.unassign()

    def read(self, output: str, partition: int, source: Source, start: int, stop: int) -> list[_At]:
        """Some results of one input partition from an offset on, the first there is among them; none where none lies
        before `stop`, or before the end of the partition."""
        if self._next != (output, partition, start):
            self._consumer.assign([TopicPartition(output, partition, start)])
        self._next = None
        came = time.monotonic()
        while time.monotonic() - came < PATIENCE_S:
            first = self._consumer.poll(_WAIT_S)  # `consume` would wait for a whole batch
            messages = [] if first is None else [first, *self._consumer.consume(_BATCH - 1, 0)]
            found: list[_At] = []
            offset = -1
            for message in messages:
                if (error := message.error()) is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        return found
                    if error.code() in UNREADABLE:
                        raise unreadable_error(message, address=self._address)
                    if not passes_for_reader(error):
                        raise start_error(error, address=self._address, operation="Read", resource=f"topic {output}")
                    continue
                came = time.monotonic()
                offset = message.offset() or 0
                if (at := _at(offset, self._plain(message), source)) is not None:
                    found.append(at)
            if found:
                self._next = output, partition, offset + 1
                return found
            if offset >= stop:
                return found
        raise DependencyError(f"Kafka at {self._address} sent nothing of topic {output} for {PATIENCE_S:g} s")


class _Search:
    """What is known of one partition while events are looked up in ascending order."""

    def __init__(self, read: Callable[[int, int], list[_At]], known: Landmarks, low: int, high: int) -> None:
        self._read, self._landmarks = read, known
        # All events before `_low_event` lie before offset `_low`.
        self._low, self._high, self._low_event = low, high, -1
        self._ahead: list[_At] = []
        self._ended = False  # nothing lies at `_low` or behind it

    def find(self, event: int) -> Result | Absent:
        found = self._known(event)
        if found is not None:
            return found
        if self._ended:
            return Absent(yet=True)
        stretch = self._landmarks.stretch(event, self._low, self._high)
        if stretch.low_event < self._low_event:
            stretch = stretch._replace(low=self._low, low_event=self._low_event)
        found = self._search(event, stretch)
        if isinstance(found, Absent) and not (self._ended if found.yet else self._ahead_covers(event)):
            # It rests on landmarks, which may be those of a topic that is gone.
            self._landmarks.forget()
            found = self._search(event, Stretch(self._low, self._low_event, self._high, -1))
        return found

    def _search(self, event: int, stretch: Stretch) -> Result | Absent:
        low, low_event, high, high_event = stretch
        found = None
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
            if self._ahead and self._low == low and start - low <= READ_ON_OFFSETS:
                start = low
                steps -= 1
            batch = self._read(start, high)
            if batch and batch[0].offset >= high:
                batch = []
            self._learn(batch)
            if batch and batch[0].event <= event:
                self._ahead = batch
                found = self._known(event)
                low, low_event = batch[-1].offset + 1, batch[-1].event
                self._low, self._low_event = low, low_event
            elif start <= low:  # nothing of these events lies between
                self._ended = not batch and high_event < 0 and self._low == low
                return Absent(yet=not batch and high_event < 0)
            else:
                high = start
                high_event = batch[0].event if batch else high_event
        return found

    def _learn(self, batch: Sequence[_At]) -> None:
        for at in (batch[0], batch[-1]) if batch else ():
            self._landmarks.learn(at.event, at.offset)

    def _ahead_covers(self, event: int) -> bool:
        return bool(self._ahead) and self._ahead[0].event <= event <= self._ahead[-1].event

    def _known(self, event: int) -> Result | Absent | None:
        """What the last batch says of an event, None where it lies behind it."""
        if not self._ahead_covers(event):
            return None
        # Under at_least_once a result may come twice; the later one is what a reader sees last.
        same = [at for at in self._ahead if at.event == event]
        try:
            return _decode(same[-1].value) if same else Absent(yet=False)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Absent(yet=False)


def _at(offset: int, value: bytes, source: Source) -> _At | None:
    try:
        origin = _decode_head(value).source
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # another program's record
        return None
    return _At(offset, origin.offset, value) if (origin.topic, origin.partition) == source else None
