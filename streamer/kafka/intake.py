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
        self._membership = assignment.ours
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
        """The partitions that are held, or wait while another one's records run alone."""
        trial = self._attempts.on_trial
        return self._membership.epochs.keys() - {trial} if trial else frozenset(self._attempts.held)

    def note_settled(self) -> None:
        """Let the attempts know of what is done by now."""
        if not self._settled:
            return
        offsets: dict[TopicPartition, int] = {}
        while self._settled:
            key, epoch, offset = self._settled.popleft()
            if self._membership.epochs.get(key) == epoch:
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
        self._keep_marked(consumer, found)
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
        epochs = self._membership.epochs
        for key in list(found):
            epoch = epochs.get(key)
            if epoch is None or key in self._attempts.held:  # who ends a hold has it read from the committed offset
                del found[key]
            elif before.get(key, epoch) != epoch:
                consumer.seek(KafkaPartition(key[0], key[1], self._membership.starts[key]))
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
                self._give_back(consumer, key, records[len(kept) :])
            if kept:
                found[key] = kept
            else:
                del found[key]

    def _keep_marked(self, consumer: Consumer, found: ByPartition) -> None:
        """Give back what may not be handed over before a note of it is seen to be committed."""
        if self._attempts.unmarked.isdisjoint(found):
            return
        keys = self._attempts.unmarked & found.keys()
        self._assignment.perform(consumer, self._membership.mark({key: found[key][0].offset() for key in keys}))
        for key in keys & self._attempts.unmarked:
            self._give_back(consumer, key, found.pop(key))

    def _give_back(self, consumer: Consumer, key: TopicPartition, records: list[Message]) -> None:
        """Read these again, soon."""
        consumer.seek(KafkaPartition(key[0], key[1], records[0].offset()))
        self._membership.gave_back(key, records[-1].offset() + 1)

    def _segment(self, key: TopicPartition, records: list[Message]) -> Segment:
        keys = [key_bytes for record in records if (key_bytes := record.key())]
        size_bytes = sum(map(len, records)) + sum(map(len, keys)) + len(records) * RECORD_OVERHEAD_BYTES
        self.records += len(records)
        self.size_bytes += size_bytes
        segment = Segment(key[0], key[1], self._membership.epochs[key], records, size_bytes=size_bytes)
        self._membership.took(key, records[-1].offset() + 1)
        return segment
