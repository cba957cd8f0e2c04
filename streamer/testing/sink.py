"""Sinks over the in-memory log. They keep to the steps of the real ones, with a task in place of their thread.

`trouble` holds what is to go wrong: each entry strikes once, at the next plan that comes to its point.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from enum import StrEnum

import msgspec

from streamer.core.output import Output
from streamer.core.pipeline.protocol import ModelCard, Refusal, Refused, Settle, Settled, SinkFailed, Unsettled
from streamer.core.pipeline.refusals import concerned
from streamer.core.pipeline.tried_commits import TriedCommits
from streamer.core.plan_encoder import PlanEncoder
from streamer.core.record import TopicPartition
from streamer.core.standing import Standing
from streamer.errors import ExitCode
from streamer.ports import Post
from streamer.testing.clock import Latency, ManualClock, Task, Wait, exactly
from streamer.testing.group import Group
from streamer.testing.log import MemoryLog, MemoryProducer
from streamer.testing.log_error import LogError
from streamer.testing.source import MemorySource

PRODUCE_S = 0.005
OFFSETS_S = 0.003
COMMIT_S = 0.005
INIT_S = 0.02
FENCED_LIMIT = 3
FENCED_WINDOW_S = 60.0

Fact = Settled | Unsettled
Steps = Generator[Wait, None, Fact]


class Trouble(StrEnum):
    """What can go wrong while a plan is settled."""

    ABORT = "abort"  # the broker refuses a record: the transaction must be aborted
    UNCLEAR_APPLIED = "unclear_applied"  # no answer to the commit, which was done
    UNCLEAR_LOST = "unclear_lost"  # no answer to the commit, which never arrived
    UNCLEAR_LATE = "unclear_late"  # no answer to the commit, which arrives later
    STALL = "stall"  # the broker is slow: `stall_before` takes `stall_s` longer
    UNDELIVERED = "undelivered"  # at least once: a part of the records was written, the rest was not
    COMMIT_FAILED = "commit_failed"  # at least once: the offsets were refused
    COMMIT_UNCLEAR = "commit_unclear"  # at least once: no answer, but the offsets were committed
    REFUSE_RECORDS = "refuse_records"  # among several records of a partition one is refused for good
    REFUSE_TOPIC = "refuse_topic"  # an output takes nothing of a partition


class Stage(StrEnum):
    """What a plan comes to after the records are written."""

    CHECK = "check"  # whether the partitions are still ours
    OFFSETS = "offsets"
    COMMIT = "commit"


class MemorySink:
    """`streamer.ports.Sink`, exactly once: one transaction a plan, as the real `TransactionalSink`."""

    def __init__(
        self,
        log: MemoryLog,
        group: Group,
        transactional_id: str,
        make_encoder: Callable[[ModelCard], PlanEncoder],
        source: MemorySource,
        post: Post,
        clock: ManualClock,
        *,
        latency: Latency = exactly,
        wall_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self.trouble: deque[Trouble] = deque()
        self.stall_s = 1.0
        self.stall_before = Stage.COMMIT
        self.busy = False  # whether a plan is under way
        self.plan_since: float | None = None
        self.outcomes: dict[str, int] = {}
        self._log = log
        self._group = group
        self._transactional_id = transactional_id
        self._make_encoder = make_encoder
        self._source = source
        self._post = post
        self._clock = clock
        self._latency = latency
        self._wall_ms = wall_ms
        self._encoder: PlanEncoder | None = None
        self._plans: deque[Settle] = deque()
        self._closing = False
        self._fenced_at: list[float] = []
        self._task = Task(clock, self._run())

    # --- the port -----------------------------------------------------------------------------------------------------

    def open(self, card: ModelCard) -> None:
        """End what an earlier owner of the transactional id left open."""
        self._encoder = self._make_encoder(card)
        self._begin()
        self._task.start()

    def wait_turn(self, timeout_s: float) -> None:
        """One thing happens at a time anyway."""

    def look(self) -> None:
        """The log takes records of any size."""

    def settle(self, plan: Settle) -> None:
        """Queue a plan."""
        self._plans.append(plan)
        self._task.wake()

    def standing(self) -> list[Standing]:
        """The partitions whose outcomes can't be written, and why."""
        return []

    def close(self, timeout_s: float) -> None:
        """The plan under way may still end; what is queued is not begun."""
        self._closing = True
        self._clock.later(timeout_s, self._task.end)

    def kill(self) -> None:
        """End as by kill -9: an open transaction stays open until somebody ends it or it times out."""
        self._task.end()

    def _strikes(self, trouble: Trouble) -> bool:
        if trouble in self.trouble:
            self.trouble.remove(trouble)
            return True
        return False

    def _refusal(self, plan: Settle) -> Refusal | None:
        """Of the plan's first partition, this once. A record that is refused alone would be convicted."""
        partition = plan.runs[0].segment.partition
        if self._strikes(Trouble.REFUSE_TOPIC):
            return Refusal("out", partition, Refused.TOPIC, "REFUSED", "it is refused", "wait", None)
        refusal = Refusal("out", partition, Refused.RECORD, "REFUSED", "it is refused", "wait")
        if len(list(concerned(plan, refusal))) > 1 and self._strikes(Trouble.REFUSE_RECORDS):
            return refusal
        return None

    def _before(self, stage: Stage, mean_s: float) -> float:
        """How long it takes to come to a stage."""
        stalled = stage is self.stall_before and self._strikes(Trouble.STALL)
        return self._latency(mean_s) + (self.stall_s if stalled else 0.0)

    # --- the task -----------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[Wait, None, None]:
        while not self._closing:
            if not self._plans:
                yield None
                continue
            plan = self._plans.popleft()
            self.busy = True
            began = self.plan_since = self._clock.now
            try:
                fact = yield from self._settle(plan)
            except FencedError:
                self._post(SinkFailed(ExitCode.FENCED, "another producer took this slot's transactional id"))
                return
            fact = msgspec.structs.replace(fact, seconds=self._clock.now - began)
            self.busy, self.plan_since = False, None
            outcome = "settled" if isinstance(fact, Settled) else fact.reason
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            self._post(fact)

    def _outputs(self, plan: Settle) -> list[Output]:
        assert self._encoder is not None
        return [output for outputs in self._encoder.encode(plan, self._wall_ms()) for output in outputs]

    def _notes(self, plan: Settle) -> dict[TopicPartition, str]:
        return {key: self._source.note(key, offset) for key, offset in plan.offsets.items()}

    def _begin(self) -> None:
        self._producer: MemoryProducer = self._log.init_producer(self._transactional_id)

    def _settle(self, plan: Settle) -> Steps:
        if refusal := self._refusal(plan):
            return Unsettled(plan.settle, "refused", refusals=(refusal,))
        outputs = self._outputs(plan)
        producer = self._producer
        try:
            producer.begin()
            producer.send(outputs)
            yield self._before(Stage.CHECK, PRODUCE_S)
            if self._strikes(Trouble.ABORT):
                raise LogError("TOPIC_EXCEPTION")
            ownership = self._source.ownership
            if not ownership.holds(plan.epochs):
                producer.abort()
                return Unsettled(plan.settle, "ownership")
            yield self._before(Stage.OFFSETS, OFFSETS_S)
            producer.send_offsets(self._group, plan.offsets, ownership.metadata, self._notes(plan))
            yield self._before(Stage.COMMIT, COMMIT_S)
            yield from self._commit(producer)
            return Settled(plan.settle)
        except LogError as error:
            return (yield from self._recover(plan, producer, error))

    def _commit(self, producer: MemoryProducer) -> Generator[Wait, None, None]:
        """The end of the transaction, and what may come between it and its answer."""
        if self._strikes(Trouble.UNCLEAR_LOST):
            raise LogError("_TIMED_OUT")
        if self._strikes(Trouble.UNCLEAR_LATE):

            def arrive() -> None:
                with suppress(LogError):  # a newer producer of this id was quicker
                    producer.commit()

            self._clock.later(2 * self._latency(INIT_S), arrive)
            raise LogError("_TIMED_OUT")
        producer.commit()
        if self._strikes(Trouble.UNCLEAR_APPLIED):
            raise LogError("_TIMED_OUT")
        yield self._latency(COMMIT_S)

    def _recover(self, plan: Settle, producer: MemoryProducer, error: LogError) -> Steps:
        """Abort where that is clear; else a new producer, whose start ends the old transaction one way or the other;
        then the committed offsets say which."""
        if error.code not in ("_TIMED_OUT", "PRODUCER_FENCED", "INVALID_TXN_STATE"):
            try:
                producer.abort()
                return Unsettled(plan.settle, "abort")
            except LogError as second:
                error = second
        if error.code == "PRODUCER_FENCED":
            self._note_fenced()
        yield self._latency(INIT_S)
        if self._closing:
            return Unsettled(plan.settle, "rebuild")
        self._begin()
        committed = yield from self._committed(plan)
        return Unsettled(plan.settle, "rebuild", committed=committed)

    def _note_fenced(self) -> None:
        now = self._clock.now
        self._fenced_at = [at for at in self._fenced_at if now - at < FENCED_WINDOW_S] + [now]
        if len(self._fenced_at) > FENCED_LIMIT:
            raise FencedError

    def _committed(self, plan: Settle) -> Generator[Wait, None, dict[TopicPartition, int]]:
        """What the group has committed of the plan's partitions, asked until there is an answer."""
        while not self._closing:
            call = self._source.call(lambda: self._group.committed(plan.offsets), self._task.wake)
            while not call.done:
                yield None
            if call.error is None:
                found: dict[TopicPartition, int] = call.result
                return found
            if call.error.code == "_DESTROY":
                break
            yield self._latency(INIT_S)
        return {}


class MemoryIdempotentSink(MemorySink):
    """At least once: acknowledged outcomes first, then the offsets, as the real `IdempotentSink`."""

    def _begin(self) -> None:
        """Nothing to open."""
        self._tried = TriedCommits()

    def _settle(self, plan: Settle) -> Steps:
        if refusal := self._refusal(plan):
            return Unsettled(plan.settle, "refused", refusals=(refusal,))
        if not self._source.ownership.holds(plan.epochs):
            return Unsettled(plan.settle, "ownership")
        try:
            return (yield from self._deliver(plan, self._outputs(plan)))
        except LogError:
            return Unsettled(plan.settle, "delivery", restart=True)

    def _deliver(self, plan: Settle, outputs: list[Output]) -> Steps:
        yield self._before(Stage.CHECK, PRODUCE_S)
        if self._strikes(Trouble.UNDELIVERED):
            self._write(outputs[: len(outputs) // 2])
            yield self._latency(INIT_S)
            return Unsettled(plan.settle, "delivery", restart=True)
        self._write(outputs)
        yield self._before(Stage.OFFSETS, OFFSETS_S)
        plan = self._tried.no_less(plan)
        call = self._source.call(lambda: self._commit_offsets(plan), self._task.wake)
        while not call.done:
            yield None
        if call.error is not None:
            return Unsettled(plan.settle, "commit")
        return Settled(plan.settle)

    def _write(self, outputs: list[Output]) -> None:
        for topic, partition, key, value, headers in outputs:
            self._log.append(topic, partition, value, key, headers, self._wall_ms())

    def _commit_offsets(self, plan: Settle) -> None:
        """On the source's task, so that ownership can't change between look and commit."""
        ownership = self._source.ownership
        if not ownership.holds(plan.epochs) or self._strikes(Trouble.COMMIT_FAILED):
            raise LogError("ILLEGAL_GENERATION")
        self._group.commit(plan.offsets, ownership.metadata, self._notes(plan))
        if self._strikes(Trouble.COMMIT_UNCLEAR):
            raise LogError("_TIMED_OUT")


class FencedError(Exception):
    """A second owner of the transactional id keeps coming back."""
