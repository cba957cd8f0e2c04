"""What both guarantees' sinks over the in-memory log have in common: the steps of `core.settle`, run by a task in place
of a thread.

`trouble` holds what is to go wrong: each entry strikes once, at the next plan that comes to its point.
"""

# ruff: noqa: B027 - a fake does nothing where there is nothing to do

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import msgspec

from streamer.core.output import Output
from streamer.core.pipeline.protocol import ModelCard, Settle, Settled, SinkFailed, Unsettled
from streamer.core.pipeline.refusal import Refusal, Refused
from streamer.core.pipeline.refusals import concerned
from streamer.core.record import TopicPartition
from streamer.core.results.plan_encoder import PlanEncoder, TakenBackError
from streamer.core.settle.calls import (
    Act,
    Asked,
    Call,
    Client,
    ClosingError,
    CutOffError,
    Failed,
    FencedError,
    LookAtRefusals,
    Pause,
    Steps,
    Written,
)
from streamer.core.standing import Standing
from streamer.core.steps import performing
from streamer.errors import ExitCode, StreamerError
from streamer.ports import Post
from streamer.testing.clock import Latency, ManualClock, Task, Wait, exactly
from streamer.testing.group import Group
from streamer.testing.log import MemoryLog
from streamer.testing.log_error import LogError
from streamer.testing.source import MemorySource
from streamer.testing.trouble import Stage, Trouble

PRODUCE_S = 0.005
OFFSETS_S = 0.003

T = TypeVar("T")

_ACTS = {
    "ILLEGAL_GENERATION": Act.STALE,
    "UNKNOWN_MEMBER_ID": Act.STALE,
    "FENCED_INSTANCE_ID": Act.FENCED,
    "PRODUCER_FENCED": Act.FENCED,
    "UNSTABLE_OFFSET_COMMIT": Act.RETRY,
    "POLICY_VIOLATION": Act.BAD_TOPIC,
    "UNKNOWN_TOPIC_OR_PARTITION": Act.BAD_TOPIC,
}
"""What the log's errors ask for; everything else asks for a new producer."""


class LogSink(ABC):
    """The task and its queue, and the calls that both guarantees share."""

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
        self._reports: list[Failed] = []
        self._refused: tuple[Refusal, ...] = ()
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

    def replace_if_hung(self, now: float) -> None:
        """Replace the task where it stands in a call that does not come back."""

    def close(self, timeout_s: float) -> None:
        """The plan under way may still end; what is queued is not begun."""
        self._closing = True
        self._clock.later(timeout_s, self.kill)

    def kill(self) -> None:
        """End as by kill -9: an open transaction stays open until somebody ends it or it times out."""
        self._task.end()

    # --- the task -----------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[Wait, None, None]:
        """Settle one plan after the other."""
        while not self._closing:
            if not self._plans:
                yield None
                continue
            plan = self._plans.popleft()
            self.busy, self.plan_since = True, self._clock.now
            if not (yield from self._work(plan, self._settle(plan))):
                return

    def _work(self, plan: Settle, steps: Steps[Settled | Unsettled]) -> Generator[Wait, None, bool]:
        """Settle one plan; returns whether there may be another."""
        began = self.plan_since or 0.0
        try:
            fact = yield from self._perform(steps, plan)
        except FencedError:
            self._post(SinkFailed(ExitCode.FENCED, "another producer took this slot's transactional id"))
            return False
        except StreamerError as failure:
            self._post(SinkFailed(failure.exit_code, str(failure)))
            return False
        fact = msgspec.structs.replace(fact, seconds=self._clock.now - began)
        self.busy, self.plan_since = False, None
        outcome = "settled" if isinstance(fact, Settled) else fact.reason
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self._post(fact)
        return True

    def _perform(self, steps: Steps[T], plan: Settle) -> Generator[Wait, None, T]:
        """Make the calls that the steps ask for, until they end."""

        def call(asked: Asked) -> Generator[Wait, None, Any]:
            try:
                return (yield from self._call(asked, plan))
            except LogError as error:
                raise Failed(_ACTS.get(error.code, Act.REBUILD), error.code) from None

        return (yield from performing(steps, call, (Failed, TakenBackError, CutOffError, ClosingError)))

    def _call(self, asked: Asked, plan: Settle) -> Generator[Wait, None, Any]:
        match asked:
            case Call.NOW:
                return self._clock.now
            case Call.CLIENT:
                return Client.CUT_OFF if self._strikes(Trouble.AWAY) else Client.FINE
            case Call.NEW_PRODUCER:
                if self._closing:
                    raise ClosingError
            case Call.PLACES:
                return ()
            case Call.OWNERSHIP:
                return self._source.ownership
            case Call.WRITE:
                self._reports, self._refused = [], ()
                yield from self._write(plan)
            case Call.REPORTS:
                return self._reports
            case Call.WRITTEN:
                return Written()
            case LookAtRefusals():
                return self._refused
            case Pause():
                yield self._latency(asked.seconds)
            case _:
                raise AssertionError(f"{type(self).__name__} makes no {asked}")
        return None

    def _call_source(self, function: Callable[[], T]) -> Generator[Wait, None, T]:
        """Have the source's task run a function."""
        call = self._source.call(function, self._task.wake)
        while not call.done:
            yield None
        if call.error is not None:
            raise ClosingError if call.error.code == "_DESTROY" else call.error
        result: T = call.result
        return result

    def _outputs(self, plan: Settle) -> list[Output]:
        assert self._encoder is not None
        return [output for outputs in self._encoder.encode(plan, self._wall_ms()) for output in outputs]

    def _notes(self, offsets: dict[TopicPartition, int]) -> dict[TopicPartition, str]:
        return {key: self._source.note(key, offset) for key, offset in offsets.items()}

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _settle(self, plan: Settle) -> Steps[Settled | Unsettled]: ...

    @abstractmethod
    def _write(self, plan: Settle) -> Generator[Wait, None, None]: ...

    # --- trouble ------------------------------------------------------------------------------------------------------

    def _strikes(self, trouble: Trouble) -> bool:
        if trouble in self.trouble:
            self.trouble.remove(trouble)
            return True
        return False

    def _refuse(self, plan: Settle, outputs: list[Output]) -> None:
        """Let the plan be refused for good where it is time for that: what the topics say of it is told when they are
        looked at. Raises Failed."""
        self._refused = tuple(self._refusals(plan, outputs))
        if self._refused:
            acts = {Refused.RECORD: Act.BAD_RECORD, Refused.TOPIC: Act.BAD_TOPIC}
            self._reports = [Failed(acts[one.kind], one.code) for one in self._refused]
            raise Failed(Act.ABORT, "REFUSED")

    def _refusals(self, plan: Settle, outputs: list[Output]) -> Iterator[Refusal]:
        """The refusals of each partition that takes nothing, and once, by `trouble`, that of the plan's first one. A
        record that is refused alone would be convicted."""
        refusing = sorted({(topic, partition) for topic, partition, *_ in outputs if topic in self._log.refusing})
        for key in refusing:
            yield _refusal(key, Refused.TOPIC, None)
        key = "out", plan.runs[0].segment.partition
        if self._strikes(Trouble.REFUSE_TOPIC):
            yield _refusal(key, Refused.TOPIC, None)
        record = _refusal(key, Refused.RECORD, False)
        if len(list(concerned(plan, record))) > 1 and self._strikes(Trouble.REFUSE_RECORDS):
            yield record

    def _before(self, stage: Stage, mean_s: float) -> float:
        """How long it takes to come to a stage."""
        stalled = stage is self.stall_before and self._strikes(Trouble.STALL)
        return self._latency(mean_s) + (self.stall_s if stalled else 0.0)


def _refusal(key: TopicPartition, kind: Refused, letters: bool | None) -> Refusal:
    return Refusal(*key, kind, "REFUSED", "it is refused", "wait", letters)
