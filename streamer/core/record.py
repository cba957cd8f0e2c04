"""The values that travel through a pipeline: records, events, answers, segments, micro-batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from streamer.errors import DataFailure

TopicPartition = tuple[str, int]
Headers = list[tuple[str, bytes | None]]

_CREATE_TIME = 1

if TYPE_CHECKING:
    RawObject = msgspec.Raw | None
else:  # msgspec can't decode a Raw inside a union; the codec turns an explicit null into None
    RawObject = msgspec.Raw


class Record(Protocol):
    """A Kafka message as the client hands it over; read, never copied, on the hot path."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]:
        """(type, milliseconds since the epoch); type 0 means that there is none."""
        ...


class MemoryRecord:
    """A record that came from no client; answers as a client's message does."""

    __slots__ = ("_headers", "_key", "_offset", "_partition", "_timestamp_ms", "_topic", "_value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._key = key
        self._value = value
        self._headers = headers
        self._timestamp_ms = timestamp_ms

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return _CREATE_TIME, self._timestamp_ms

    def __len__(self) -> int:
        return len(self._value or b"")


class BareRecord:
    """A record whose headers can't be read: everything else of it, taken from the client's message."""

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def topic(self) -> str:
        return self._record.topic()

    def partition(self) -> int:
        return self._record.partition()

    def offset(self) -> int:
        return self._record.offset()

    def key(self) -> bytes | None:
        return self._record.key()

    def value(self) -> bytes | None:
        return self._record.value()

    def headers(self) -> Headers | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return self._record.timestamp()


class ReadRecord(BareRecord):
    """A record with the headers and the value that were read of it, in place of its own."""

    __slots__ = ("_headers", "_value")

    def __init__(self, record: Record, headers: Headers | None, value: bytes | None) -> None:
        super().__init__(record)
        self._headers, self._value = headers, value

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers


class TextEvent(msgspec.Struct, frozen=True, gc=False):
    """A record's decoded, validated content. Unknown fields of the wire form are ignored.

    The constraints hold when JSON is decoded into this type; `id` as an integer is one of 64 bits, and `metadata` a
    JSON object, which the codec checks.
    """

    text: Annotated[str, msgspec.Meta(min_length=1)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | int | None = None
    text_pair: str | None = None
    params: dict[str, Any] | None = None
    metadata: RawObject = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the model says of one input: `output` is the JSON of the result's `output` field, encoded once by the
    worker and never again. Records with the same input share one `Answer`; those that waited for the computation of
    another record have it `repeated`. `measures` are what the worker measured beside the output (`core.measures`)."""

    output: bytes
    truncated: bool = False
    cached: bool = False
    tokens: int = 0
    repeated: bool = False
    measures: bytes = b""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that ends without result or dead letter: `tombstone`, `replay` (meant for another pipeline), or a change
    event without a row: `delete`, `truncate`, `message`."""

    reason: str


Outcome = Answer | DataFailure | Skipped


class TraceParent(msgspec.Struct, frozen=True, gc=False):
    """The W3C context of a record's producer: ids as integers (128 and 64 bits)."""

    trace_id: int
    span_id: int
    sampled: bool


@dataclass(slots=True, eq=False)
class Segment:
    """The records of one partition in one micro-batch: the unit of bookkeeping.

    The lists run in parallel, in offset order. `events[i]` is None where decoding already ended the record;
    `traces` is None when no record carries a `traceparent`; `spans[i]` is the id of the record's own span, 0 for none,
    and `spans` is None when no record has one (`traceparent.mark_spans` fills it). `open` counts the records without
    outcome; `failures` those that end as dead letters; `planned` is how many of the first ones are durable or in a
    plan under way.
    `size_bytes` is what the segment takes of the byte budget, as the source counts it. `dropped` marks a segment
    whose partition left us. `named` says that a record has headers beside a trace context, which may name its id.
    `trace` are the ids of its micro-batch's trace and span (16 and 8 bytes), where those are sampled.
    """

    topic: str
    partition: int
    epoch: int
    records: list[Record]
    events: list[TextEvent | None] = field(default_factory=list)
    outcomes: list[Outcome | None] = field(default_factory=list)
    traces: list[TraceParent | None] | None = None
    spans: list[int] | None = None
    open: int = 0
    failures: int = 0
    planned: int = 0
    size_bytes: int = 0
    dropped: bool = False
    named: bool = False
    trace: bytes = b""

    def part(self, first: int, last: int) -> Segment:
        """Its records `first` to `last - 1`, which all have outcomes, as a segment of their own. What they take of the
        byte budget is left out: it is for one that stays after the rest of its micro-batch."""
        outcomes = self.outcomes[first:last]
        return Segment(
            self.topic,
            self.partition,
            self.epoch,
            self.records[first:last],
            self.events[first:last],
            outcomes,
            self.traces and self.traces[first:last],
            self.spans and self.spans[first:last],
            failures=sum(type(outcome) is DataFailure for outcome in outcomes),
            named=self.named,
        )


@dataclass(slots=True, eq=False)
class MicroBatch:
    """The records taken together from the source: the unit of taking, of cache look-up and of tracing.

    The ids are drawn by the source, since nothing in the core is random. `taken_ns` is wall-clock time, `taken` of
    the monotonic clock. `unfinished` counts the segments that are neither durable nor dropped.
    `sampled` says whether its own trace is.
    """

    number: int
    segments: list[Segment]
    trace_id: int
    span_id: int
    taken_ns: int
    taken: float = 0.0
    unfinished: int = 0
    sampled: bool = True
