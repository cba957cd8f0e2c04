"""Unique events at an even pace, and the subscriber that watches their outcomes while faults go on."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message, TopicPartition

from streamer.bench.chaos.checker import Event, Outcome
from streamer.bench.harness.bench import Setup
from streamer.bench.harness.program import BenchError
from streamer.bench.harness.workload import DEADLY_MARK
from streamer.config.load import KafkaConfig
from streamer.core.settle.calls import Act
from streamer.kafka.clients import make_consumer, make_producer, produce, reader_properties, writer_properties
from streamer.kafka.errors import act_on_consumer, start_error
from streamer.kafka.reader import Reader

TICK_S = 0.01
FLUSH_S = 60.0
LEADERS_S = 30.0
LINGER_MS = 250
"""Each write is fetched by two replicas, and settled by a transaction that writes ten times more. At 100 ms the three
brokers took 1.3 of two cores, at 400 ms 0.7 (measured), and members that start again have what is left. Far below it is
worse still: while five messages of a partition are in flight and more have lingered, librdkafka's idempotent producer
polls without pause (2.16; half a core at 5 ms)."""

TextOf = Callable[[int], tuple[str, int | None]]
"""An event's text and the answer that it has to get, by its number."""


class EventWriter:
    """Writes events to all partitions in turn, on a thread, until `finish`. A context manager.

    `sent_at` says by number when each event was handed to the client, in seconds of `time.monotonic`; `last_offsets`
    by partition which offset was acknowledged last; `failures` counts by librdkafka's name what was not acknowledged.
    """

    def __init__(self, kafka: KafkaConfig, topic: str, partitions: int, rate_per_s: float, text_of: TextOf) -> None:
        self.partitions = partitions
        self.sent_at: list[float] = []
        self.last_offsets: defaultdict[int, int] = defaultdict(lambda: -1)
        self.failures: Counter[str] = Counter()
        self._topic = topic
        self._rate_per_s = rate_per_s
        self._text_of = text_of
        self._events: list[Event] = []
        self._deadly: SimpleQueue[int] = SimpleQueue()
        self._encode = msgspec.json.Encoder().encode
        self._producer = make_producer(
            {**writer_properties(kafka), "delivery.report.only.error": False, "linger.ms": LINGER_MS}
        )
        self._at_least: int | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> EventWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._at_least = self._at_least or 0
        self._thread.join()
        self._producer.purge()
        self._producer.close()

    @property
    def events(self) -> Sequence[Event]:
        """What was written up to now; it goes on to grow."""
        return self._events

    def write_deadly(self, partition: int) -> None:
        """Let the next event of this partition be one that kills its worker."""
        self._deadly.put(partition)

    def widen(self, partitions: int) -> None:
        """Write to that many partitions from now on; returns when the client knows their leaders."""
        deadline = time.monotonic() + LEADERS_S
        while True:
            found = self._producer.list_topics(self._topic, timeout=LEADERS_S).topics[self._topic].partitions
            if len(found) >= partitions and all(each.leader >= 0 for each in found.values()):
                break
            if time.monotonic() > deadline:
                raise BenchError(f"{self._topic} has no {partitions} partitions with leaders after {LEADERS_S:.0f} s")
            time.sleep(TICK_S)
        self.partitions = partitions

    def finish(self, at_least: int) -> list[Event]:
        """Write the rest up to `at_least` events at full speed; returns all, with what is known of their offsets."""
        self._at_least = at_least
        self._thread.join()
        if self._error is not None:
            raise BenchError(f"the writer failed: {type(self._error).__name__}") from self._error
        self._producer.flush(FLUSH_S)
        return self._events

    def _run(self) -> None:
        began = time.monotonic()
        try:
            while self._at_least is None or len(self._events) < self._at_least:
                due = (time.monotonic() - began) * self._rate_per_s
                while self._at_least is None and len(self._events) < due:
                    self._write()
                if self._at_least is not None and len(self._events) < self._at_least:
                    self._write()
                elif self._at_least is None:
                    time.sleep(TICK_S)
                self._producer.poll(0)
        except BaseException as error:
            self._error = error

    def _write(self) -> None:
        number = len(self._events)
        partition = number % self.partitions
        text, answer = self._text_of(number)
        deadly = False
        try:
            partition = self._deadly.get_nowait()
            text, answer, deadly = f"{DEADLY_MARK} {number}", None, True
        except Empty:
            pass
        self._events.append(Event(number, partition, None, answer, deadly, acknowledged=False))
        self.sent_at.append(time.monotonic())

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.failures[error.name()] += 1
                return
            known = (offset := message.offset()) is not None and offset >= 0
            self._events[number] = self._events[number]._replace(acknowledged=True, offset=offset if known else None)
            if offset is not None:
                self.last_offsets[partition] = max(offset, self.last_offsets[partition])

        value = self._encode({"id": str(number), "text": text})
        produce(self._producer, self._topic, value, b"%d" % number, partition, on_delivery=delivered)


class Watcher:
    """The read_committed reader during the run, on a thread. A context manager."""

    def __init__(self, kafka: KafkaConfig, setup: Setup, partitions: int, sent_at: Sequence[float]) -> None:
        self.outcomes: list[Outcome] = []
        self.dead: dict[int, float] = {}
        self._outcome = _outcome_reader(setup)
        self._address = kafka.bootstrap_servers
        self._topics = (setup.output, setup.config.pipelines["bench"].dead_letter)
        self._sent_at = sent_at
        self._sent: defaultdict[int, list[float]] = defaultdict(list)
        self._seen: defaultdict[int, list[float]] = defaultdict(list)
        self._consumer = make_consumer(reader_properties(kafka))
        self._wanted = partitions
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join()
        self._consumer.close()

    def widen(self, partitions: int) -> None:
        """Read so many partitions of each topic, new ones from their beginning."""
        self._wanted = partitions

    def seen_after(self, partition: int, moment: float) -> float | None:
        """When the first result of an event of this partition that was sent after `moment` was seen."""
        if self._error is not None:
            raise BenchError(f"the reader failed: {self._error}") from self._error
        at = bisect_right(self._sent[partition], moment)
        seen = self._seen[partition]
        return seen[at] if at < len(seen) else None

    def _run(self) -> None:
        assigned = 0
        try:
            while not self._closing:
                if assigned < self._wanted:
                    new = range(assigned, self._wanted)
                    self._consumer.incremental_assign(
                        [TopicPartition(topic, number, 0) for topic in self._topics for number in new]
                    )
                    assigned = self._wanted
                for message in self._consumer.consume(1000, TICK_S):
                    if (error := message.error()) is None:
                        self._note(self._outcome(message))
                    elif act_on_consumer(error) is not Act.RETRY:
                        raise start_error(error, address=self._address, resource=f"topic {message.topic()}")
        except BaseException as error:
            self._error = error

    def _note(self, outcome: Outcome) -> None:
        now = time.monotonic()
        self.outcomes.append(outcome)
        if outcome.code:
            self.dead[outcome.number] = now
        elif 0 <= outcome.number < len(self._sent_at):
            self._sent[outcome.source_partition].append(self._sent_at[outcome.number])
            self._seen[outcome.source_partition].append(now)


def read_all(kafka: KafkaConfig, setup: Setup) -> list[Outcome]:
    """What a reader finds afterwards, from the beginning to the end."""
    outcome = _outcome_reader(setup)
    with Reader(kafka, [setup.output, setup.config.pipelines["bench"].dead_letter]) as reader:
        return [outcome(record) for record in reader.read_until_end()]


class _Source(msgspec.Struct):
    partition: int
    offset: int


class _Result(msgspec.Struct):
    id: str
    source: _Source
    output: Any


class _Given(msgspec.Struct):
    id: str


def _outcome_reader(setup: Setup) -> Callable[[Any], Outcome]:
    """Reads records of the output and of the dead-letter topic."""
    dead_letter = setup.config.pipelines["bench"].dead_letter
    decode_result, decode_given = msgspec.json.Decoder(_Result).decode, msgspec.json.Decoder(_Given).decode

    def read(record: Any) -> Outcome:
        partition, offset = record.partition(), record.offset()
        if record.topic() == dead_letter:
            headers = dict(record.headers())
            return Outcome(
                int(decode_given(record.value()).id),
                int(headers["__connect.errors.partition"]),
                int(headers["__connect.errors.offset"]),
                headers["streamer.error.code"].decode(),
                None,
                partition,
                offset,
            )
        result = decode_result(record.value())
        answer = result.output.get("n") if isinstance(result.output, dict) else None
        source = result.source
        return Outcome(int(result.id), source.partition, source.offset, "", answer, partition, offset)

    return read
