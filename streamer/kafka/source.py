"""The source: one thread owns the Consumer, and every call on it is made there.

A call such as `committed()` from a second thread hangs for seconds beside a poll loop on an idle topic (measured), so
other threads hand their calls over with `call`; inside a rebalance callback this thread serves them while it waits.

Taking is natural batching: `poll` wakes with the first record, `consume(n, 0)` takes what else is there. When the grant
is used up we first just do not poll: `pause` throws the prefetch away (16,000 records moved where 156,000 did without).
Only a hold longer than `hold_s` pauses all partitions, so that polling, and with it our membership, goes on.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.pipeline.protocol import Assigned, EndReached, Lost, Revoking, SourceFailed, Taken
from streamer.core.record import MicroBatch, Segment, TopicPartition
from streamer.errors import ExitCode
from streamer.kafka.errors import Act, act_on_consumer, error_of, start_error
from streamer.kafka.ownership import Ownership
from streamer.kafka.start import start_offsets
from streamer.ports import Post

POLL_S = 0.05
HELD_POLL_S = 0.1
LOOK_AHEAD_S = 1.0
BROKER_S = 10.0
RECORD_OVERHEAD_BYTES = 2560
"""What a record in flight takes beside its key and value (client message, event, flight, outcome, result; measured by
`streamer bench memory` with small records), so that the byte budget bounds memory for them too."""

Message = Any
"""The client's message. Its stub says that every field may be None, which is so for errors alone."""

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """How to read. `start` is earliest, latest or milliseconds since the epoch, for partitions without an offset."""

    topics: list[str]
    start: str | int = "earliest"
    skip_out_of_range: bool = False
    until_end: bool = False
    micro_batch_records: int = 2000
    linger_ms: float = 0.0
    budget_bytes: int = 48 << 20
    hold_s: float = 1.0
    revoke_deadline_s: float = 10.0
    address: str = ""


class KafkaSource:
    """Implements `streamer.ports.Source`. `ownership` may be read from any thread."""

    def __init__(self, consumer: Consumer, policy: SourcePolicy, post: Post) -> None:
        self.ownership = Ownership()
        self.polled_at = time.monotonic()
        self.out_of_range_records = 0
        self.on_joining: Callable[[], None] = lambda: None
        self.highs: dict[TopicPartition, int] = {}
        self._consumer = consumer
        self._policy = policy
        self._post = post
        self._epochs: dict[TopicPartition, int] = {}
        self._starts: dict[TopicPartition, int] = {}
        self._epoch = 0
        self._look_ahead_at = 0.0
        self._number = 0
        self._taken_records = 0
        self._taken_bytes = 0
        self._granted_records = 0
        self._granted_bytes = 0
        self._held_since: float | None = None
        self._paused = False
        self._released: set[int] = set()
        self._calls: deque[tuple[Callable[[Consumer], Any], Future[Any]]] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._ends: dict[TopicPartition, int] | None = {} if policy.until_end else None
        self._end_reached = False
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    # --- from other threads --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the group."""
        self._thread.start()
        self.on_joining()

    def grant(self, records: int, size_bytes: int) -> None:
        """Allow to have taken this much in all."""
        with self._news:
            self._granted_records, self._granted_bytes = records, size_bytes
            self._news.notify()

    def release(self, epoch: int) -> None:
        """Let revoked partitions go."""
        with self._news:
            self._released.add(epoch)
            self._news.notify()

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """Read again from the committed offsets."""
        self.call(lambda _: self._rewind(partitions))  # what goes wrong in there ends the source, not this call

    def rejoin(self) -> None:
        """Leave the group and join it anew, which makes it divide all partitions again."""
        self.call(self._rejoin)

    def call(self, function: Callable[[Consumer], T]) -> Future[T]:
        """Run a function on the source thread, soon; also while it waits inside a rebalance callback."""
        future: Future[T] = Future()
        with self._news:
            if self._closing:
                future.set_exception(RuntimeError("the source is closed"))
            else:
                self._calls.append((function, future))
                self._news.notify()
        return future

    def close(self, timeout_s: float) -> None:
        """Leave the group. A static member's partitions wait for it until the session times out."""
        with self._news:
            self._closing = True
            self._news.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # --- the source thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._subscribe(self._consumer)
            while not self._closing:
                self._step()
        except KafkaException as error:
            self._failed(error)
        except Exception:
            log.exception("the source thread ended")
            self._post(SourceFailed(ExitCode.BUG, "the source thread ended with an exception, see the log"))
        finally:
            self._serve(refuse=True)
            try:
                self._consumer.close()
            except (KafkaException, RuntimeError) as error:
                log.warning("the consumer did not close cleanly", extra={"data": {"error": type(error).__name__}})

    def _subscribe(self, consumer: Consumer) -> None:
        consumer.subscribe(
            self._policy.topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _rejoin(self, consumer: Consumer) -> None:
        consumer.unsubscribe()  # leaves the group, for a static member too
        self._subscribe(consumer)

    def _step(self) -> None:
        self._serve()
        policy = self._policy
        records = min(self._granted_records - self._taken_records, policy.micro_batch_records)
        size_bytes = self._granted_bytes - self._taken_bytes
        if records <= 0 or size_bytes <= 0 or (self._paused and size_bytes < policy.budget_bytes // 2):
            self._hold()
            return
        if self._paused:
            self._pause(False)
        self._held_since = None
        before = self.ownership.epochs
        message = self._consumer.poll(POLL_S)
        messages: list[Message] = []
        if message is not None:
            messages = self._consumer.consume(records - 1, policy.linger_ms / 1000) if records > 1 else []
            messages.insert(0, message)
        self._publish()
        if messages:
            self._take(messages, before)
        elif self._ends is not None:
            self._check_end()

    def _hold(self) -> None:
        """The grant is used up: wait for a larger one; after `hold_s` pause, and poll to stay a member."""
        now = time.monotonic()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < self._policy.hold_s:
            self.polled_at = now
            with self._news:
                if not self._calls and not self._closing:
                    self._news.wait(POLL_S)
            return
        if not self._paused:
            self._pause(True)
        before = self.ownership.epochs
        message = self._consumer.poll(HELD_POLL_S)
        self._publish()
        if message is not None:
            self._take([message], before)

    def _pause(self, paused: bool) -> None:
        partitions = [KafkaPartition(topic, partition) for topic, partition in self._epochs]
        if partitions:
            (self._consumer.pause if paused else self._consumer.resume)(partitions)
        self._paused = paused

    def _take(self, messages: list[Message], before: dict[TopicPartition, int]) -> None:
        """Group records by partition and post them. `before` is what we owned when the client was asked: a partition
        that went and came back during the call may have records from before; it is read again from its start."""
        by_partition: dict[TopicPartition, list[Message]] = {}
        for message in messages:
            if message.error() is not None:
                self._on_message_error(message, before)
                continue
            key = (message.topic(), message.partition())
            records = by_partition.get(key)
            if records is None:
                by_partition[key] = [message]
            else:
                records.append(message)
        segments = []
        total = 0
        for key, records in by_partition.items():
            epoch = self._epochs.get(key)
            if epoch is None:
                continue
            if before.get(key, epoch) != epoch:
                self._consumer.seek(KafkaPartition(key[0], key[1], self._starts[key]))
                continue
            keys = [key_bytes for record in records if (key_bytes := record.key())]
            size_bytes = sum(map(len, records)) + sum(map(len, keys)) + len(records) * RECORD_OVERHEAD_BYTES
            total += size_bytes
            self._taken_records += len(records)
            segments.append(Segment(key[0], key[1], epoch, records, size_bytes=size_bytes))
            if self._ends is not None and records[-1].offset() + 1 >= self._ends.get(key, 0):
                self._ends.pop(key, None)
        self._taken_bytes += total
        if segments:
            self._number += 1
            ids = secrets.randbits(192) | 1 << 191 | 1  # neither id may be 0
            self._post(
                Taken(
                    MicroBatch(self._number, segments, ids >> 64, ids & (1 << 64) - 1, time.time_ns(), time.monotonic())
                )
            )
        if self._ends is not None:
            self._check_end()

    def _on_message_error(self, message: Message, before: dict[TopicPartition, int]) -> None:
        error: KafkaError = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            key = (message.topic(), message.partition())
            epoch = self._epochs.get(key)
            again = before.get(key, epoch) != epoch  # what stands before this end is read again
            if self._ends is not None and not again and message.offset() >= self._ends.get(key, 0):
                self._ends.pop(key, None)
            return
        act = act_on_consumer(error)
        if act is Act.OUT_OF_RANGE:
            self._on_out_of_range(message)
        elif act is Act.RETRY:
            log.warning("the consumer goes on after an error", extra={"data": {"error": error.name()}})
        else:
            raise KafkaException(error)

    def _on_out_of_range(self, message: Message) -> None:
        key = (message.topic(), message.partition())
        partition = KafkaPartition(*key)
        low, _ = self._consumer.get_watermark_offsets(partition, timeout=BROKER_S)
        committed = self._consumer.committed([partition], timeout=BROKER_S)[0].offset
        lost = max(low - committed, 0) if committed >= 0 else 0
        if not self._policy.skip_out_of_range:
            self._post(
                SourceFailed(
                    ExitCode.CONFIGURATION,
                    f"{key[0]}/{key[1]}: retention deleted {lost} records between the committed offset {committed} and "
                    f'{low}, the first that is left. Set on_out_of_range = "earliest" to go on from there',
                )
            )
            self._closing = True
            return
        self.out_of_range_records += lost
        log.warning(
            "records were deleted by retention before they were read",
            extra={"data": {"topic": key[0], "partition": key[1], "records": lost, "offset": low}},
        )
        # The client has stopped to fetch this partition, so that it can't be told to seek.
        self._consumer.incremental_unassign([partition])
        self._consumer.incremental_assign([KafkaPartition(key[0], key[1], low)])

    def _failed(self, error: KafkaException) -> None:
        inner = error_of(error)
        if act_on_consumer(inner) is Act.FENCED:
            message = (
                "another process joined the group under this slot and fenced this one; do not restart it. Two replicas "
                "may not share a slot: let it be chosen, or set slot to different names"
            )
            self._post(SourceFailed(ExitCode.FENCED, message))
            return
        failure = start_error(
            inner, address=self._policy.address, operation="Read", resource=f"topic {', '.join(self._policy.topics)}"
        )
        self._post(SourceFailed(failure.exit_code, str(failure)))

    def _look_ahead(self) -> None:
        """The ends that the client last heard of, for the lag."""
        for key in self._epochs:
            _, high = self._consumer.get_watermark_offsets(KafkaPartition(*key), cached=True)
            if high >= 0:
                self.highs[key] = high

    def _publish(self) -> None:
        self.polled_at = time.monotonic()
        if self.polled_at >= self._look_ahead_at:
            self._look_ahead_at = self.polled_at + LOOK_AHEAD_S
            self._look_ahead()
        self.ownership = Ownership(self._consumer.consumer_group_metadata(), dict(self._epochs))

    def _serve(self, refuse: bool = False) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            if refuse:
                future.set_exception(RuntimeError("the source is closed"))
                continue
            try:
                future.set_result(function(self._consumer))
            except Exception as error:
                future.set_exception(error)

    def _rewind(self, partitions: frozenset[TopicPartition]) -> None:
        mine = [KafkaPartition(*key) for key in partitions if key in self._epochs]
        if not mine:
            return
        try:
            starts, _ = start_offsets(self._consumer, mine, self._policy.start)
            for start in starts:
                self._consumer.seek(start)
            self._expect_end(starts)
        except KafkaException as error:
            self._failed(error)
            self._closing = True
            return
        self._own(starts)
        self._publish()

    # --- rebalance callbacks, on the source thread -------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        starts, fresh = start_offsets(consumer, partitions, self._policy.start)
        consumer.incremental_assign(starts)
        if fresh:
            self._commit_start(consumer, fresh)
        self._expect_end(starts)
        if starts:  # the client keeps "paused" over a loss and a new assignment (measured)
            (consumer.pause if self._paused else consumer.resume)(starts)
        self._own(starts)
        self._publish()

    @staticmethod
    def _commit_start(consumer: Consumer, fresh: list[KafkaPartition]) -> None:
        """Commit a start found by policy at once: else a crash before the first settle would find `latest` anew, and
        skip what came meanwhile."""
        try:
            consumer.commit(offsets=fresh, asynchronous=False)
        except KafkaException as error:
            log.warning("the start was not committed", extra={"data": {"error": error_of(error).name()}})

    def _own(self, starts: list[KafkaPartition]) -> None:
        self._epoch += 1
        epochs = {(start.topic, start.partition): self._epoch for start in starts}
        self._epochs.update(epochs)
        self._starts.update({(start.topic, start.partition): start.offset for start in starts})
        log.info("assigned", extra={"data": {"partitions": sorted(epochs), "epoch": self._epoch}})
        self._post(Assigned(epochs))

    def _on_revoke(self, _: Consumer, partitions: list[KafkaPartition]) -> None:
        """Wait until the core has settled what it can and lets go, or the deadline passes; serve calls meanwhile."""
        self._publish()
        keys = frozenset((partition.topic, partition.partition) for partition in partitions)
        self._epoch += 1
        epoch = self._epoch
        if not self._closing:
            self._post(Revoking(epoch, keys))
            deadline = time.monotonic() + self._policy.revoke_deadline_s
            while epoch not in self._released and not self._closing and time.monotonic() < deadline:
                self._serve()
                with self._news:
                    if not self._calls and epoch not in self._released and not self._closing:
                        self._news.wait(POLL_S)
                self.polled_at = time.monotonic()
            self._released.discard(epoch)
        self._disown(keys)
        log.info("revoked", extra={"data": {"partitions": sorted(keys)}})

    def _on_lost(self, _: Consumer, partitions: list[KafkaPartition]) -> None:
        keys = frozenset((partition.topic, partition.partition) for partition in partitions)
        self._disown(keys)
        log.warning("lost", extra={"data": {"partitions": sorted(keys)}})
        self._post(Lost(keys))

    def _disown(self, keys: frozenset[TopicPartition]) -> None:
        for key in keys:
            self._epochs.pop(key, None)
            self.highs.pop(key, None)
            if self._ends is not None:
                self._ends.pop(key, None)
        self._publish()

    def _expect_end(self, starts: list[KafkaPartition]) -> None:
        """`until_end`: what is there now of these partitions has to be taken."""
        if self._ends is None:
            return
        for start in starts:
            low, high = self._consumer.get_watermark_offsets(start, timeout=BROKER_S)
            if max(start.offset, low) < high:
                self._ends[(start.topic, start.partition)] = high
                self._end_reached = False

    def _check_end(self) -> None:
        if self._ends is not None and not self._ends and self._epoch and not self._end_reached:
            self._end_reached = True
            self._post(EndReached())
