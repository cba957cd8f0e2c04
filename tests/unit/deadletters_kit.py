"""Dead letters as each tool writes them, and a log of topics in memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamer.core.deadletters.envelope import wrap
from streamer.core.deadletters.families import read
from streamer.core.deadletters.letter import DeadLetter
from streamer.core.events.codec import Reading
from streamer.core.events.record_headers import headers_of
from streamer.core.output import Output
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Headers, Record
from streamer.errors import Code, DataFailure, ExitCode, StreamerError
from tests.records import FakeRecord

CARD = ModelCard("sentiment", "abc123", "text-classification", "float32", "torch")
TIME_MS = 1_700_000_000_000

# As their documentation and sources say: names, and how the numbers are written.
CONNECT: Headers = [  # DeadLetterQueueReporter: all UTF-8
    ("__connect.errors.topic", b"orders"),
    ("__connect.errors.partition", b"3"),
    ("__connect.errors.offset", b"117"),
    ("__connect.errors.connector.name", b"sink-jdbc"),
    ("__connect.errors.task.id", b"0"),
    ("__connect.errors.stage", b"VALUE_CONVERTER"),
    ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
    ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
    ("__connect.errors.exception.message", b"Converting byte[] to Kafka Connect data failed"),
    ("__connect.errors.exception.stacktrace", b"org.apache...\n\tat ..."),
]
STREAMS: Headers = [  # KIP-1034, ExceptionHandlerUtils: all UTF-8, `exception` is toString()
    ("__streams.errors.exception", b"org.apache.kafka.common.errors.SerializationException: Size of data is not 4"),
    ("__streams.errors.message", b"Size of data is not 4"),
    ("__streams.errors.stacktrace", b"org.apache...\n\tat ..."),
    ("__streams.errors.topic", b"orders"),
    ("__streams.errors.partition", b"3"),
    ("__streams.errors.offset", b"117"),
]
SHARE: Headers = [  # KIP-1191, ShareGroupDLQStateManager: all UTF-8
    ("__dlq.errors.topic", b"orders"),
    ("__dlq.errors.partition", b"3"),
    ("__dlq.errors.offset", b"117"),
    ("__dlq.errors.group", b"share-1"),
    ("__dlq.errors.delivery.count", b"5"),
    ("__dlq.errors.message", b"Offset delivery count exceeded the threshold."),
]
SPRING: Headers = [  # DeadLetterPublishingRecoverer: int, long and long big-endian, the rest UTF-8
    ("kafka_dlt-original-topic", b"orders"),
    ("kafka_dlt-original-partition", struct.pack(">i", 3)),
    ("kafka_dlt-original-offset", struct.pack(">q", 117)),
    ("kafka_dlt-original-timestamp", struct.pack(">q", TIME_MS)),
    ("kafka_dlt-original-timestamp-type", b"CreateTime"),
    ("kafka_dlt-original-consumer-group", b"billing"),
    ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
    ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
    ("kafka_dlt-exception-message", b"Listener failed; no such account 17"),
    ("kafka_dlt-exception-stacktrace", b"org.spring...\n\tat ..."),
    ("retry_topic-attempts", struct.pack(">i", 4)),
    ("retry_topic-backoff-timestamp", struct.pack(">q", TIME_MS)),
]
ARROYO: Headers = [("original_partition", b"3"), ("original_offset", b"117")]
REDPANDA: Headers = [("fallback_error", b"failed to send message to http_client")]


class Unreadable(FakeRecord):
    """A record with a header name that is not UTF-8: the client raises at the first call, and dies after that."""

    __slots__ = ("asked",)

    def headers(self) -> Headers | None:
        assert not hasattr(self, "asked"), "a second call would end the process"
        self.asked = True
        raise SystemError("<method 'headers'> returned a result with an exception set")


def ours(
    number: int = 0,
    *,
    value: bytes | None = b'{"id": "a", "text": "hi"}',
    headers: Headers | None = None,
    code: Code = Code.INFER_EXCEPTION,
    message: str = "It raised.",
    pipeline: str = "p",
    topic: str = "in.dlq",
    key: bytes | None = b"k",
    partition: int = 0,
    origin: str = "in",
    timestamp_ms: int | None = TIME_MS,
    limit_bytes: int = 1_000_000,
) -> FakeRecord:
    """A dead letter of ours, at offset `number` of its topic, from offset 100 + `number` of `origin`."""
    record = FakeRecord(value, key, headers, origin, partition, 100 + number)
    _, _, key, value, wrapped = wrap(
        record,
        DataFailure(code, message, "ValueError"),
        pipeline=pipeline,
        card=CARD,
        dead_letter_topic=topic,
        limit_bytes=limit_bytes,
        time_ms=TIME_MS,
    )
    return FakeRecord(value, key, wrapped, topic, partition, number, timestamp_ms)


def foreign(headers: Headers, value: bytes | None = b"v") -> FakeRecord:
    """A dead letter of another tool, with a header of the record's own first."""
    return FakeRecord(value, b"k", [("mine", b"\xff1"), *headers], "orders-dlt", 1, 5, TIME_MS)


def letter(record: Record) -> DeadLetter:
    """A record as a dead letter."""
    (headers,) = headers_of([record])
    return DeadLetter(record, headers, read(dict(headers or [])))


@dataclass(frozen=True, slots=True)
class FakeTarget:
    """A topic to write to."""

    partitions: int = 4
    max_message_bytes: int | None = 1_048_588
    rights: frozenset[str] | None = None


@dataclass(slots=True)
class FakeScan:
    """One pass over a topic in memory, in batches of three."""

    records: list[Record]
    ends: dict[int, int]

    @property
    def span(self) -> int:
        return len(self.records)

    def batches(self) -> Iterator[list[Record]]:
        for start in range(0, len(self.records), 3):
            yield self.records[start : start + 3]


@dataclass(slots=True)
class MemoryLog:
    """Topics in memory: reads what is committed, and is written by `MemoryCopier`."""

    topics: dict[str, list[Record]] = field(default_factory=dict)
    targets: dict[str, FakeTarget] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)

    @contextmanager
    def scan(
        self, topic: str, *, starts: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
    ) -> Iterator[FakeScan]:
        records = list(self.topics[topic])
        high: dict[int, int] = {}
        for record in records:
            high[record.partition()] = record.offset() + 1
        fixed = high if ends is None else {each: min(high[each], ends.get(each, 0)) for each in high}
        low = starts or {}
        yield FakeScan(
            [each for each in records if low.get(each.partition(), 0) <= each.offset() < fixed[each.partition()]],
            fixed,
        )

    def describe(self, topics: Sequence[str]) -> dict[str, FakeTarget | None]:
        return {topic: self.targets.get(topic) for topic in topics}

    def identity(self, topic: str) -> str | None:
        return "" if topic in self.targets else None

    def append(self, output: Output) -> None:
        """Write one record."""
        topic, partition, key, value, headers = output
        records = self.topics.setdefault(topic, [])
        partition = max(partition, 0)
        offset = sum(record.partition() == partition for record in records)
        records.append(FakeRecord(value, key, headers, topic, partition, offset, TIME_MS))


class MemoryCopier:
    """Transactions on a `MemoryLog`: one owner a topic. `dies_at` is the commit at which the process is killed,
    `lands` whether that commit still lands, `owner` a number to share with another copier."""

    def __init__(
        self,
        log: MemoryLog,
        topic: str,
        limits: Sequence[int],
        dies_at: int = -1,
        lands: bool = False,
        owner: int | None = None,
    ) -> None:
        assert limits
        self._log, self._topic, self._dies_at, self._lands = log, topic, dies_at, lands
        self._owner = log.owners[topic] = log.owners.get(topic, 0) + 1 if owner is None else owner
        self.commits = 0

    def commit(self, outputs: Sequence[Output]) -> None:
        if self._log.owners[self._topic] != self._owner:
            raise FencedError("fenced")
        dies = self.commits == self._dies_at
        self.commits += 1
        if not dies or self._lands:
            for output in outputs:
                self._log.append(output)
        if dies:
            raise Killed

    def close(self) -> None:
        pass


class FencedError(StreamerError):
    """Another copier of the topic was opened."""

    exit_code = ExitCode.FENCED


class Killed(BaseException):
    """kill -9."""
