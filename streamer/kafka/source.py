"""The source: one thread owns the Consumer, and every call on it is made there.

A call such as `committed()` from a second thread hangs for seconds beside a poll loop on an idle topic (measured), so
other threads hand their calls over with `call`; inside a rebalance callback this thread serves them while it waits.

Taking is natural batching: `poll` wakes with the first record, `consume(n, 0)` takes what else is there. When the grant
is used up we first just do not poll: `pause` throws the prefetch away (16,000 records moved where 156,000 did without).
Only a hold longer than `hold_s` pauses all partitions, so that polling, and with it our membership, goes on.

Partitions whose records took earlier processes down are handed over with care (`core/pipeline/attempts.py`): a few
records, or one, and the next when these are settled.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.pipeline.attempts import Attempts
from streamer.core.pipeline.protocol import EndReached, SourceFailed, Taken
from streamer.core.record import MicroBatch, Segment, TopicPartition
from streamer.errors import ExitCode
from streamer.kafka.assignment import Assignment
from streamer.kafka.calls import Calls
from streamer.kafka.errors import Act, act_on_consumer
from streamer.kafka.ownership import Ownership
from streamer.kafka.read_errors import ReadErrors
from streamer.kafka.source_policy import SourcePolicy
from streamer.kafka.stuck import StuckWatch
from streamer.ports import Post

POLL_S = 0.05
HELD_POLL_S = 0.1
GHOST_S = 60.0
GHOSTS = 3
LOOK_AHEAD_S = 1.0
RECORD_OVERHEAD_BYTES = 2560
"""What a record in flight takes beside its key and value (client message, event, flight, outcome, result; measured by
`streamer bench memory` with small records), so that the byte budget bounds memory for them too."""

Message = Any
"""The client's message. Its stub says that every field may be None, which is so for errors alone."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class KafkaSource:
    """Implements `streamer.ports.Source`. `ownership` may be read from any thread; `polled_at` is the last sign of
    life, ahead of now while the source waits for the brokers."""

    def __init__(self, make_consumer: Callable[[], Consumer], policy: SourcePolicy, post: Post) -> None:
        self.ownership = Ownership()
        self.polled_at = time.monotonic()
        self.on_joining: Callable[[], None] = lambda: None
        self.highs: dict[TopicPartition, int] = {}
        self.starts: dict[TopicPartition, int] = {}
        self.stuck = StuckWatch(policy.stuck_s)
        self._make_consumer = make_consumer
        self._consumer = make_consumer()
        self._renewed_at: list[float] = []
        self._policy = policy
        self._post = post
        self._calls = Calls()
        self._attempts = Attempts(policy.crash_limit, secrets.token_hex(4))
        self._assignment = Assignment(
            self._attempts,
            self._calls,
            post,
            start=policy.start,
            until_end=policy.until_end,
            revoke_deadline_s=policy.revoke_deadline_s,
            changed=self._publish,
            beat=self._beat,
        )
        self.errors = ReadErrors(policy, self._assignment, self._calls, post)
        self._look_ahead_at = 0.0
        self._number = 0
        self._done = 0
        self._settled: deque[tuple[TopicPartition, int, int]] = deque()  # with epoch and the next offset
        self._taken_records = 0
        self._taken_bytes = 0
        self._granted_records = 0
        self._granted_bytes = 0
        self._held_since: float | None = None
        self._paused: frozenset[TopicPartition] = frozenset()
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    # --- from other threads --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the group."""
        self._thread.start()
        self.on_joining()

    def grant(self, records: int, size_bytes: int) -> None:
        """Allow to have taken this much in all."""
        self._granted_records, self._granted_bytes = records, size_bytes
        self._calls.ring()

    def done(self, batch: MicroBatch) -> None:
        """All of this micro-batch is durable or dropped."""
        if self._attempts.watching:
            for one in batch.segments:
                if not one.dropped:
                    self._settled.append(((one.topic, one.partition), one.epoch, one.records[-1].offset() + 1))
        self._done += 1
        if self._attempts.most is not None:
            self._calls.ring()

    def release(self, epoch: int) -> None:
        """Let revoked partitions go."""
        self._assignment.release(epoch)

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """Read again from the committed offsets."""
        self.call(lambda _: self._rewind(partitions))  # what goes wrong in there ends the source, not this call

    def rejoin(self) -> None:
        """Leave the group and join it anew, which makes it divide all partitions again."""
        self.call(self._rejoin)

    def call(self, function: Callable[[Consumer], T]) -> Future[T]:
        """Run a function on the source thread, soon; also while it waits inside a rebalance callback."""
        return self._calls.call(function)

    def absolve(self) -> None:
        """What is in our hands is not to blame: this process ends in order, and no plan is under way."""
        self._assignment.in_order = True

    def close(self, timeout_s: float) -> None:
        """Leave the group. A static member's partitions wait for it until the session times out."""
        self._calls.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # --- the source thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._assignment.before_joining(self._consumer, self._policy.topics)
            self._subscribe(self._consumer)
            while not self._calls.closing:
                try:
                    self._step()
                except KafkaException as error:
                    if not self._is_our_own_ghost(error):
                        raise
                    self._renew()
        except KafkaException as error:
            self.errors.failed(error)
        except Exception:
            log.exception("the source thread ended")
            self._post(SourceFailed(ExitCode.BUG, "the source thread ended with an exception, see the log"))
        finally:
            self._calls.refuse()
            try:
                self._consumer.close()
            except Exception as error:  # of a rebalance callback of ours, too
                log.warning("the consumer did not close cleanly", extra={"data": {"error": type(error).__name__}})

    def _is_our_own_ghost(self, error: KafkaException) -> bool:
        """Whether it was ourselves who fenced us. When the broker stops for longer than the session, the client gives
        its membership up and joins again under the same slot; its heartbeats that were under way are then answered
        with FENCED, and that is fatal (seen with librdkafka 2.16.1). A second owner of the slot fences a member that
        has just lost nothing, or comes back again and again."""
        now = time.monotonic()
        self._renewed_at = [at for at in self._renewed_at if now - at < GHOST_S]
        lost = now - self._assignment.lost_at < GHOST_S
        return act_on_consumer(error) is Act.FENCED and lost and len(self._renewed_at) < GHOSTS

    def _renew(self) -> None:
        """Go on with a new client."""
        log.warning("this slot's former membership fenced the present one: joining anew")
        self._renewed_at.append(time.monotonic())
        self._consumer.close()
        self._consumer = self._make_consumer()
        self._paused = frozenset()
        self._subscribe(self._consumer)

    def _subscribe(self, consumer: Consumer) -> None:
        ours = self._assignment
        consumer.subscribe(
            self._policy.topics, on_assign=self._on_assign, on_revoke=ours.on_revoke, on_lost=ours.on_lost
        )

    def _rejoin(self, consumer: Consumer) -> None:
        consumer.unsubscribe()  # leaves the group, for a static member too
        self._subscribe(consumer)

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        held = self._held
        self._assignment.on_assign(consumer, partitions)
        keys = frozenset((one.topic, one.partition) for one in partitions)
        if keys:  # the client keeps "paused" over a loss and a new assignment (measured)
            (consumer.pause if held else consumer.resume)([KafkaPartition(*key) for key in keys])
            self._paused = self._paused | keys if held else self._paused - keys

    def _step(self) -> None:
        self._calls.serve(self._consumer)
        self._note_settled()
        policy = self._policy
        most = policy.micro_batch_records
        if self._attempts.most is not None:
            most = min(self._attempts.most, most)
        records = min(self._granted_records - self._taken_records, most)
        size_bytes = self._granted_bytes - self._taken_bytes
        if records <= 0 or size_bytes <= 0 or (self._held and size_bytes < policy.budget_bytes // 2) or self._careful:
            self._hold()
            return
        self._held_since = None
        trial = self._attempts.on_trial
        self._pause(self._assignment.epochs.keys() - {trial} if trial else frozenset())
        before = self.ownership.epochs
        message = self._consumer.poll(POLL_S)
        messages: list[Message] = []
        if message is not None:
            messages = self._consumer.consume(records - 1, policy.linger_ms / 1000) if records > 1 else []
            messages.insert(0, message)
        self._publish()
        if messages:
            self._take(messages, before)
        else:
            if self._attempts.most is not None:
                self._attempts.waited(time.monotonic())
            self._check_end()

    @property
    def _careful(self) -> bool:
        """Whether what is in flight has to be settled first."""
        return self._attempts.most is not None and self._done < self._number

    @property
    def _held(self) -> bool:
        """Whether all partitions are paused."""
        epochs = self._assignment.epochs
        return bool(epochs) and epochs.keys() <= self._paused

    def _hold(self) -> None:
        """The grant is used up: wait for a larger one; after `hold_s` pause, and poll to stay a member."""
        now = time.monotonic()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < self._policy.hold_s:
            self.polled_at = now
            self._calls.rest(POLL_S)
            return
        self._pause(frozenset(self._assignment.epochs))
        before = self.ownership.epochs
        message = self._consumer.poll(HELD_POLL_S)
        self._publish()
        if message is not None:
            self._take([message], before)

    def _pause(self, wanted: frozenset[TopicPartition] | set[TopicPartition]) -> None:
        """Let exactly these of our partitions be paused."""
        if wanted == self._paused:
            return
        paused = self._paused & self._assignment.epochs.keys()
        if resume := paused - wanted:
            self._consumer.resume([KafkaPartition(*key) for key in resume])
        if pause := wanted - paused:
            self._consumer.pause([KafkaPartition(*key) for key in pause])
        self._paused = frozenset(wanted)

    def _note_settled(self) -> None:
        if not self._settled:
            return
        offsets: dict[TopicPartition, int] = {}
        while self._settled:
            key, epoch, offset = self._settled.popleft()
            if self._assignment.epochs.get(key) == epoch:
                offsets[key] = offset
        self._attempts.settled(offsets, time.monotonic())

    def _take(self, messages: list[Message], before: dict[TopicPartition, int]) -> None:
        """Group records by partition and post them. `before` is what we owned when the client was asked: a partition
        that went and came back during the call may have records from before; it is read again from its start."""
        by_partition: dict[TopicPartition, list[Message]] = {}
        only_topic = self._policy.topics[0] if len(self._policy.topics) == 1 else ""
        topic, partition = "", -1
        for message in messages:
            if message.error() is not None:
                self.errors.on_message(self._consumer, message, before)
                continue
            # The client hands them over in long stretches of one partition.
            if message.partition() != partition or (not only_topic and message.topic() != topic):
                topic, partition = only_topic or message.topic(), message.partition()
                append = by_partition.setdefault((topic, partition), []).append
            append(message)
        epochs = self._assignment.epochs
        for key in list(by_partition):
            epoch = epochs.get(key)
            if epoch is None:
                del by_partition[key]
            elif before.get(key, epoch) != epoch:
                self._consumer.seek(KafkaPartition(key[0], key[1], self._assignment.starts[key]))
                del by_partition[key]
        if self._attempts.most is not None:
            self._keep_few(by_partition)
        if not self._attempts.unmarked.isdisjoint(by_partition):
            by_partition = self._mark(by_partition)
            if self._attempts.most is not None:  # partitions that need care may have come meanwhile
                self._keep_few(by_partition)
        segments = []
        total = 0
        for key, records in by_partition.items():
            keys = [key_bytes for record in records if (key_bytes := record.key())]
            size_bytes = sum(map(len, records)) + sum(map(len, keys)) + len(records) * RECORD_OVERHEAD_BYTES
            total += size_bytes
            self._taken_records += len(records)
            segment = Segment(key[0], key[1], epochs[key], records, size_bytes=size_bytes)
            if self._attempts.most == 1:
                segment.verdict = self._attempts.verdict(key)
            segments.append(segment)
            self._assignment.took(key, records[-1].offset() + 1)
        self._taken_bytes += total
        if segments:
            self._number += 1
            ids = secrets.randbits(192) | 1 << 191 | 1  # neither id may be 0
            self._post(
                Taken(
                    MicroBatch(self._number, segments, ids >> 64, ids & (1 << 64) - 1, time.time_ns(), time.monotonic())
                )
            )
        self._check_end()

    def _mark(self, by_partition: dict[TopicPartition, list[Message]]) -> dict[TopicPartition, list[Message]]:
        """Note that these are about to be handed over; returns those that are still ours under the same epoch.

        A commit may wait for its coordinator for ever: when the only broker comes back from a freeze, the metadata
        first list none, and the client connects anew only once nothing refers to the broker that it dropped, as the
        records in its queue do (seen with librdkafka 2.16). So the queue is emptied while a commit takes long.
        """
        epochs = self._assignment.epochs
        under = {key: epochs[key] for key in by_partition}
        firsts: dict[tuple[TopicPartition, int], int] = {}

        def empty_queue() -> None:
            self._calls.serve(self._consumer)
            self._pause(frozenset(epochs))
            before = dict(epochs)
            messages: list[Message] = self._consumer.consume(self._policy.micro_batch_records, 0.0)
            for message in messages:
                if message.error() is not None:
                    self.errors.on_message(self._consumer, message, before)
                    continue
                key = message.topic(), message.partition()
                if (epoch := epochs.get(key)) is not None:
                    known = before.get(key, epoch) == epoch
                    firsts.setdefault((key, epoch), message.offset() if known else self._assignment.starts[key])

        ends = {key: records[-1].offset() + 1 for key, records in by_partition.items()}
        self._assignment.mark(self._consumer, ends, empty_queue)
        for (key, epoch), offset in firsts.items():
            if epochs.get(key) == epoch:
                self._consumer.seek(KafkaPartition(key[0], key[1], offset))
        return {key: records for key, records in by_partition.items() if epochs.get(key) == under[key]}

    def _keep_few(self, by_partition: dict[TopicPartition, list[Message]]) -> None:
        """Give back what may not be handed over now: partitions may have come during the call that need care."""
        trial, most = self._attempts.on_trial, self._attempts.most
        for key, records in list(by_partition.items()):
            kept = [] if self._careful or (trial and key != trial) else records[:most]
            if len(kept) < len(records):
                self._consumer.seek(KafkaPartition(key[0], key[1], records[len(kept)].offset()))
            if kept:
                by_partition[key] = kept
            else:
                del by_partition[key]

    def _beat(self, silent_s: float) -> None:
        self.polled_at = time.monotonic() + silent_s

    def _publish(self) -> None:
        now = self.polled_at = time.monotonic()
        if now >= self._look_ahead_at:
            self._look_ahead_at = now + LOOK_AHEAD_S
            self._look_ahead(now)
        self.ownership = Ownership(self._consumer.consumer_group_metadata(), dict(self._assignment.epochs))

    def _look_ahead(self, now: float) -> None:
        """The ends that the client last heard of, for the lag; and what does not move although it could."""
        epochs = self._assignment.epochs
        highs = {}
        for key in epochs:
            _, high = self._consumer.get_watermark_offsets(KafkaPartition(*key), cached=True)
            if high >= 0:
                highs[key] = high
        self.highs, self.starts = highs, dict(self._assignment.starts)
        asked = [KafkaPartition(*key) for key in epochs if key not in self._paused]
        positions = {
            (one.topic, one.partition): one.offset
            if one.offset >= 0
            else self._assignment.starts[one.topic, one.partition]
            for one in (self._consumer.position(asked) if asked and self._held_since is None else ())
        }
        for key, position in self.stuck.look(positions, highs, now).items():
            log.warning(
                "a partition stands still and is sought anew", extra={"data": {"partition": key, "offset": position}}
            )
            self._consumer.resume([KafkaPartition(*key)])
            self._consumer.seek(KafkaPartition(key[0], key[1], position))

    def _rewind(self, partitions: frozenset[TopicPartition]) -> None:
        try:
            self._assignment.rewind(self._consumer, partitions)
        except KafkaException as error:
            self.errors.failed(error)
            self._calls.closing = True

    def _check_end(self) -> None:
        ours = self._assignment
        if ours.ends is not None and not ours.ends and ours.ever and not ours.all_taken:
            ours.all_taken = True
            self._post(EndReached())
