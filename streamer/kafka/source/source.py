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
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.intake import Intake, SourcePolicy
from streamer.core.membership import Membership, Steps
from streamer.core.obstacles import UntilEnd
from streamer.core.ownership import Ownership
from streamer.core.pipeline.attempts import Attempts, Former
from streamer.core.pipeline.protocol import EndReached, SourceFailed, Taken
from streamer.core.record import MicroBatch, TopicPartition
from streamer.core.settle.calls import Act
from streamer.errors import DependencyError, ExitCode, StreamerError
from streamer.kafka.errors import act_on_consumer
from streamer.kafka.source.assignment import Assignment
from streamer.kafka.source.calls import Calls, Pauses
from streamer.kafka.source.cluster import ClusterView
from streamer.kafka.source.messages import Message, Messages
from streamer.kafka.source.requests import Held, held_error
from streamer.kafka.source.topic_ids import TopicIds
from streamer.kafka.source.watch import Watch
from streamer.ports import Post

POLL_S = 0.05
HELD_POLL_S = 0.1
LEAVE_S = 3.0
GHOST_S = 60.0
GHOSTS = 3

T = TypeVar("T")
log = logging.getLogger(__name__)


class KafkaSource:
    """Implements `streamer.ports.Source`. `ownership`, `pauses`, `read_progress` and the counts of `intake` may be read
    from any thread; `polled_at` is the last sign of life, ahead of now while the source waits for the brokers. Without
    a `view` of the cluster nobody asks why partitions are stuck or where they end; `ids` hears of recreated topics."""

    def __init__(
        self,
        make_consumer: Callable[[], Consumer],
        policy: SourcePolicy,
        post: Post,
        held: Held = lambda _: False,
        before: Callable[[], Former] = Former,
        view: ClusterView | None = None,
        ids: TopicIds | None = None,
    ) -> None:
        self.ownership = Ownership()
        self.polled_at = time.monotonic()
        self.on_joining: Callable[[], None] = lambda: None
        self._make_consumer = make_consumer
        self._consumer = make_consumer()
        self._renewed_at: list[float] = []
        self._policy = policy
        self._post = post
        self._held = held
        self._calls = Calls()
        self._attempts = Attempts(policy.crash_limit)
        self._before = before
        self._ours = Membership(self._attempts, until_end=policy.until_end, revoke_deadline_s=policy.revoke_deadline_s)
        self._in_order = False  # the process ends for reasons of its own, and no plan is under way
        self._assignment = Assignment(
            self._ours,
            self._calls,
            post,
            start=policy.start,
            changed=self._publish,
            beat=self._beat,
            held=held,
            ends_of=lambda keys: {key: ends.high for key, ends in view.ends(keys).items()} if view else {},
        )
        self.intake = Intake(policy, self._ours, self._attempts)
        self.pauses = Pauses(self._ours.epochs)
        self._watch = Watch(policy, self._ours, self.intake, self.pauses, view)
        self.read_progress, self.standing, self.ahead = (
            self._watch.read_progress,
            self._watch.standing,
            self._watch.ahead,
        )
        self._messages = Messages(policy, self.intake, self._watch, self._assignment, self._calls, post)
        self._ids = ids
        self._until_end = UntilEnd()
        self._granted_records = 0
        self._granted_bytes = 0
        self._paused: frozenset[TopicPartition] = frozenset()
        self._held_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    @property
    def awaits_group(self) -> bool:
        """Whether the group has yet to say what is ours."""
        return self._ours.waits_since is not None or self._ours.epoch == 0

    @property
    def resets(self) -> int:
        """How many partitions were read from their start, since their topic was recreated or truncated."""
        return self._ours.resets

    @property
    def starts(self) -> dict[TopicPartition, int]:
        """Where we began to read what we have, and had; to look single ones up from any thread."""
        return self._ours.starts

    def note(self, partition: TopicPartition, offset: int) -> str:
        """The metadata with which this offset is to be settled. From any thread."""
        return self._attempts.note(partition, offset)

    # --- from other threads --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the group."""
        self._ours.waits_since = time.monotonic()
        self._thread.start()
        self._watch.still.start()
        self.on_joining()

    def grant(self, records: int, size_bytes: int) -> None:
        """Allow to have taken this much in all."""
        self._granted_records, self._granted_bytes = records, size_bytes
        self._calls.ring()

    def pause(self, partitions: frozenset[TopicPartition]) -> None:
        """Read nothing more of exactly these for now."""
        self._paused = partitions

    def done(self, batch: MicroBatch) -> None:
        """All of this micro-batch is durable or dropped."""
        if self.intake.done(batch):
            self._calls.ring()

    def release(self, epoch: int) -> None:
        """Let revoked partitions go."""
        self._assignment.release(epoch)

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """Read again from the committed offsets."""
        self.call(lambda _: self._rewind(partitions))  # what goes wrong in there ends the source, not this call

    def rejoin(self) -> None:
        """Leave the group and rejoin it, which makes it divide all partitions again."""
        self.call(self._rejoin)

    def call(self, function: Callable[[Consumer], T]) -> Future[T]:
        """Run a function on the source thread, soon; also while it waits inside a rebalance callback."""
        return self._calls.call(function)

    def withheld(self, partitions: list[KafkaPartition]) -> DependencyError | None:
        """Why nobody is told the committed offsets of these, where a transaction that has not ended is why."""
        return held_error(self._policy.group) if self._held(partitions) else None

    def mark_clean_end(self) -> None:
        """This process ends in order, and no plan is under way: its end says nothing against the records in its
        hands."""
        self._in_order = True

    def close(self, timeout_s: float) -> None:
        """Leave the group. A static member's partitions wait for it until the session times out."""
        self._calls.close()
        self._watch.still.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # --- the source thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._attempts.started(self._before())
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
            self._messages.failed(error)
        except StreamerError as error:
            self._post(SourceFailed(error.exit_code, str(error)))
        except Exception:
            log.exception("the source thread ended")
            self._post(SourceFailed(ExitCode.BUG, "the source thread ended with an exception, see the log"))
        finally:
            self._end_in_order()
            self._calls.refuse()
            try:
                self._consumer.close()
            except Exception as error:  # of a rebalance callback of ours, too
                log.warning("the consumer did not close cleanly", extra={"data": {"error": type(error).__name__}})

    def _end_in_order(self) -> None:
        """Leave word of an orderly end; where it was this thread that failed, once the driver has heard of it."""
        deadline = time.monotonic() + LEAVE_S
        while not self._calls.closing and time.monotonic() < deadline:
            self._calls.serve(self._consumer)
            self._calls.rest(POLL_S)
        if self._in_order:
            self._perform(self._ours.end_in_order(self._ours.epochs))

    def _is_our_own_ghost(self, error: KafkaException) -> bool:
        """Whether it was ourselves who fenced us. When the broker stops for longer than the session, the client gives
        its membership up and joins again under the same slot; its heartbeats that were under way are then answered
        with FENCED, and that is fatal (seen with librdkafka 2.16.1). A second owner of the slot fences a member that
        has just lost nothing, or comes back again and again."""
        now = time.monotonic()
        self._renewed_at = [at for at in self._renewed_at if now - at < GHOST_S]
        lost = now - self._ours.lost_at < GHOST_S
        return act_on_consumer(error) is Act.FENCED and lost and len(self._renewed_at) < GHOSTS

    def _renew(self) -> None:
        """Go on with a new client."""
        log.warning("this slot's former membership fenced the current one: joining again")
        self._renewed_at.append(time.monotonic())
        self._consumer.close()
        self._consumer = self._make_consumer()
        self.pauses.forget()
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
        held = self.pauses.of_all
        self._assignment.on_assign(consumer, partitions)
        self.pauses.assigned(consumer, [(one.topic, one.partition) for one in partitions], pause=held)

    def _step(self) -> None:
        policy, intake = self._policy, self.intake
        self._calls.serve(self._consumer)
        intake.note_settled(time.monotonic())
        self._perform(self._ours.look_at_held())
        records = min(self._granted_records - intake.records, intake.most)
        size_bytes = self._granted_bytes - intake.size_bytes
        if records <= 0 or size_bytes <= 0 or (self.pauses.of_all and size_bytes < policy.budget_bytes // 2):
            self._hold()
            return
        self._held_since = None
        unreadable = self._watch.unreadable
        unreadable.retry(time.monotonic())
        self.pauses.only(self._consumer, intake.waiting | unreadable.held | self._paused)
        before = self.ownership.epochs
        message = self._consumer.poll(POLL_S)
        messages: list[Message] = []
        if message is None:
            self.read_progress.idle(time.monotonic())
        else:
            messages = self._consumer.consume(records - 1, policy.linger_ms / 1000) if records > 1 else []
            messages.insert(0, message)
        self._publish()
        self._take(messages, before)
        if not messages:
            intake.nothing_came(time.monotonic())

    def _hold(self) -> None:
        """The grant is used up: wait for a larger one; after `hold_s` pause, and poll to stay a member."""
        now = time.monotonic()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < self._policy.hold_s:
            self.polled_at = now
            self._calls.rest(POLL_S)
            return
        self.pauses.only(self._consumer, self._ours.epochs.keys())
        before = self.ownership.epochs
        message = self._consumer.poll(HELD_POLL_S)
        self._publish()
        self._take([message] if message is not None else [], before)

    def _take(self, messages: list[Message], before: dict[TopicPartition, int]) -> None:
        """Post what may be handed over of these; and that the end is reached, where it is."""
        if self._ids is not None and self._ids.changed:
            messages = self._reset_recreated(messages)
        found = self._messages.by_partition(self._consumer, messages, before) if messages else {}
        if found:
            self._perform(self.intake.keep(found, before))
        if found:
            ids = secrets.randbits(192) | 1 << 191 | 1  # neither id may be 0
            trace_id, span_id = ids >> 64, ids & (1 << 64) - 1
            self._post(Taken(self.intake.batch(found, trace_id, span_id, time.time_ns(), time.monotonic())))
        ours = self._ours
        if ours.ends is None or ours.all_taken:
            return
        if ours.at_end(time.monotonic()) and not self._watch.still.unsure:
            ours.all_taken = True
            self._post(EndReached([str(one) for one in self._watch.held()]))
        elif words := self._until_end.give_up_reason(ours.ends, self.standing, self.intake.idle, time.monotonic()):
            self._post(SourceFailed(ExitCode.DEPENDENCY, words))
            self._calls.closing = True

    def _reset_recreated(self, messages: list[Message]) -> list[Message]:
        """Input topics were deleted and recreated: what was fetched of them is old, or not from their start."""
        assert self._ids is not None
        topics, self._ids.changed = self._ids.changed, set()
        keys = frozenset(key for key in self._ours.epochs if key[0] in topics)
        if keys:
            log.warning(
                "an input topic was deleted and recreated: it is read from its start, and its results may have a ce_id "
                "that earlier ones had. What was not read of the deleted one is gone: produce it again if it matters",
                extra={"data": {"topics": sorted(topics), "partitions": sorted(keys)}},
            )
            self._perform(self._ours.reset_to_start(keys))
        return [one for one in messages if one.topic() not in topics]

    def _perform(self, steps: Steps[T]) -> T:
        return self._assignment.perform(self._consumer, steps)

    def _beat(self, silent_s: float) -> None:
        self.polled_at = time.monotonic() + silent_s

    def _publish(self) -> None:
        self.polled_at = time.monotonic()
        self._watch.look(self._consumer, self.polled_at, asks=self._held_since is None)
        self.ownership = Ownership(self._consumer.consumer_group_metadata(), dict(self._ours.epochs))

    def _rewind(self, partitions: frozenset[TopicPartition]) -> None:
        try:
            self._perform(self._ours.rewind(partitions))
        except KafkaException as error:
            self._messages.failed(error)
            self._calls.closing = True
