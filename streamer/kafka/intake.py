"""The intake: the client's messages become micro-batches, and what becomes of these is counted.

Partitions whose records took earlier processes down are handed over with care (`core/pipeline/attempts.py`): a few
records, or one, and the next when these are settled.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Set
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.pipeline.attempts import Attempts
from streamer.core.record import MicroBatch, Segment, TopicPartition
from streamer.kafka.assignment import Assignment
from streamer.kafka.calls import Calls
from streamer.kafka.pauses import Pauses
from streamer.kafka.read_errors import ReadErrors
from streamer.kafka.source_policy import SourcePolicy

RECORD_OVERHEAD_BYTES = 2560
"""What a record in flight takes beside its key and value (client message, event, flight, outcome, result; measured by
`streamer bench memory` with small records), so that the byte budget bounds memory for them too."""

Message = Any
"""The client's message. Its stub says that every field may be None, which is so for errors alone."""

ByPartition = dict[TopicPartition, list[Message]]
"""Records in the order of their offsets."""


class Intake:
    """On the source thread, but for `done`. `records` and `size_bytes` are of all that was ever handed over."""

    def __init__(
        self,
        policy: SourcePolicy,
        attempts: Attempts,
        assignment: Assignment,
        pauses: Pauses,
        calls: Calls,
        errors: ReadErrors,
    ) -> None:
        self.records = 0
        self.size_bytes = 0
        self._policy = policy
        self._attempts = attempts
        self._assignment = assignment
        self._pauses = pauses
        self._calls = calls
        self._errors = errors
        self._number = 0
        self._done = 0
        self._settled: deque[tuple[TopicPartition, int, int]] = deque()  # with epoch and the next offset

    def done(self, batch: MicroBatch) -> None:
        """All of this micro-batch is durable or dropped. From any thread."""
        if self._attempts.watching:
            for one in batch.segments:
                if not one.dropped:
                    self._settled.append(((one.topic, one.partition), one.epoch, one.records[-1].offset() + 1))
        self._done += 1
        if self._attempts.most is not None:
            self._calls.ring()

    @property
    def idle(self) -> bool:
        """Whether all that was ever handed over is durable or dropped."""
        return self._done == self._number

    @property
    def most(self) -> int:
        """How many records the next micro-batch may have: none while what is in flight has to be settled first."""
        usual, few = self._policy.micro_batch_records, self._attempts.most
        if few is None:
            return usual
        return 0 if self._done < self._number else min(few, usual)

    @property
    def waiting(self) -> Set[TopicPartition]:
        """The partitions that wait while another one's records run alone."""
        trial = self._attempts.on_trial
        return self._assignment.epochs.keys() - {trial} if trial else frozenset()

    def note_settled(self) -> None:
        """Let the attempts know of what is done by now."""
        if not self._settled:
            return
        offsets: dict[TopicPartition, int] = {}
        while self._settled:
            key, epoch, offset = self._settled.popleft()
            if self._assignment.epochs.get(key) == epoch:
                offsets[key] = offset
        self._attempts.settled(offsets, time.monotonic())

    def nothing_came(self) -> None:
        """The client was asked and had no record."""
        if self._attempts.most is not None:
            self._attempts.waited(time.monotonic())

    def batch(
        self, consumer: Consumer, messages: list[Message], before: dict[TopicPartition, int]
    ) -> MicroBatch | None:
        """A micro-batch of these messages, as far as they may be handed over now; the others are sought back.
        `before` is what was ours when the client was asked for them."""
        found = self._ours(consumer, messages, before)
        self._keep_few(consumer, found)
        if not self._attempts.unmarked.isdisjoint(found):
            found = self._mark(consumer, found)
            self._keep_few(consumer, found)  # partitions that need care may have come meanwhile
        if not found:
            return None
        segments = [self._segment(key, records) for key, records in found.items()]
        self._number += 1
        ids = secrets.randbits(192) | 1 << 191 | 1  # neither id may be 0
        trace_id, span_id = ids >> 64, ids & (1 << 64) - 1
        return MicroBatch(self._number, segments, trace_id, span_id, time.time_ns(), time.monotonic())

    def _ours(self, consumer: Consumer, messages: list[Message], before: dict[TopicPartition, int]) -> ByPartition:
        """The records of partitions that are ours. One that went and came back since `before` may have records from
        then; it is read again from its start."""
        found: ByPartition = {}
        only_topic = self._policy.topics[0] if len(self._policy.topics) == 1 else ""
        topic, partition = "", -1
        failed = []
        for message in messages:
            if message.error() is not None:
                failed.append(message)
                continue
            # The client hands them over in long stretches of one partition.
            if message.partition() != partition or (not only_topic and message.topic() != topic):
                topic, partition = only_topic or message.topic(), message.partition()
                append = found.setdefault((topic, partition), []).append
            append(message)
        self._errors.unreadable.gave(found)
        for message in failed:
            self._errors.on_message(consumer, message, before, found)
        epochs = self._assignment.epochs
        for key in list(found):
            epoch = epochs.get(key)
            if epoch is None:
                del found[key]
            elif before.get(key, epoch) != epoch:
                consumer.seek(KafkaPartition(key[0], key[1], self._assignment.starts[key]))
                del found[key]
        return found

    def _keep_few(self, consumer: Consumer, found: ByPartition) -> None:
        """Give back what may not be handed over now: partitions may have come during the call that need care."""
        if self._attempts.most is None:
            return
        trial = self._attempts.on_trial
        for key, records in list(found.items()):
            kept = [] if trial and key != trial else records[: self.most]
            if len(kept) < len(records):
                consumer.seek(KafkaPartition(key[0], key[1], records[len(kept)].offset()))
                self._assignment.gave_back(key, records[-1].offset() + 1)
            if kept:
                found[key] = kept
            else:
                del found[key]

    def _mark(self, consumer: Consumer, found: ByPartition) -> ByPartition:
        """Note that these are about to be handed over; returns those that are still ours under the same epoch.

        A commit may wait for its coordinator for ever: when the only broker comes back from a freeze, the metadata
        first list none, and the client connects anew only once nothing refers to the broker that it dropped, as the
        records in its queue do (seen with librdkafka 2.16). So the queue is emptied while a commit takes long.
        """
        epochs = self._assignment.epochs
        under = {key: epochs[key] for key in found}
        firsts: dict[tuple[TopicPartition, int], int] = {}

        def empty_queue() -> None:
            self._calls.serve(consumer)
            self._pauses.only(consumer, epochs.keys())
            before = dict(epochs)
            queued = consumer.consume(self._policy.micro_batch_records, 0.0)
            for key, records in self._ours(consumer, queued, before).items():
                firsts.setdefault((key, epochs[key]), records[0].offset())
                self._assignment.gave_back(key, records[-1].offset() + 1)

        ends = {key: records[-1].offset() + 1 for key, records in found.items()}
        self._assignment.mark(consumer, ends, empty_queue)
        for (key, epoch), offset in firsts.items():
            if epochs.get(key) == epoch:
                consumer.seek(KafkaPartition(key[0], key[1], offset))
        return {key: records for key, records in found.items() if epochs.get(key) == under[key]}

    def _segment(self, key: TopicPartition, records: list[Message]) -> Segment:
        keys = [key_bytes for record in records if (key_bytes := record.key())]
        size_bytes = sum(map(len, records)) + sum(map(len, keys)) + len(records) * RECORD_OVERHEAD_BYTES
        self.records += len(records)
        self.size_bytes += size_bytes
        segment = Segment(key[0], key[1], self._assignment.epochs[key], records, size_bytes=size_bytes)
        if self._attempts.most == 1:
            segment.verdict = self._attempts.verdict(key)
        self._assignment.took(key, records[-1].offset() + 1)
        return segment
