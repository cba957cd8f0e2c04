"""Exactly once over the in-memory log."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any

from streamer.core.pipeline.protocol import Settle, Settled, Unsettled
from streamer.core.settle.calls import (
    Act,
    Asked,
    Call,
    ClosingError,
    CutOffError,
    Failed,
    SendOffsets,
    Steps,
)
from streamer.core.settle.exactly_once import SEND_S, ExactlyOnce
from streamer.errors import DependencyError
from streamer.testing.clock import Task, Wait
from streamer.testing.log import MemoryProducer
from streamer.testing.log_error import LogError
from streamer.testing.sink import OFFSETS_S, PRODUCE_S, LogSink
from streamer.testing.trouble import Stage, Trouble

COMMIT_S = 0.005
INIT_S = 0.02
RETRIED_S = 0.5
HUNG_S = 2 * SEND_S


class MemorySink(LogSink):
    """`streamer.ports.Sink`, exactly once, as the real `TransactionalSink`."""

    _producer: MemoryProducer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._steps = ExactlyOnce()
        self._sending: tuple[Settle, float] | None = None
        self._withheld = False

    def replace_if_hung(self, now: float) -> None:
        """Replace the task where it stands in a call that does not come back."""
        if self._sending is None or now - self._sending[1] < HUNG_S:
            return
        plan, self._sending = self._sending[0], None
        self._task.end()
        self._task = Task(self._clock, self._resume(plan))
        self._task.start()

    def _resume(self, plan: Settle) -> Generator[Wait, None, None]:
        if (yield from self._work(plan, self._steps.resume(plan, HUNG_S))):
            yield from self._run()

    def _begin(self) -> None:
        self._producer = self._log.init_producer(self._transactional_id)

    def _settle(self, plan: Settle) -> Steps[Settled | Unsettled]:
        return self._steps.settle(plan)

    def _call(self, asked: Asked, plan: Settle) -> Generator[Wait, None, Any]:
        match asked:
            case Call.INIT:
                yield self._latency(INIT_S)
                self._begin()
            case Call.BEGIN:
                self._producer.begin()
            case Call.ABORT:
                self._producer.abort()
            case SendOffsets():
                yield from self._send_offsets(plan, asked.metadata)
            case Call.COMMIT:
                yield self._before(Stage.COMMIT, COMMIT_S)
                yield from self._commit()
            case Call.COMMITTED:
                if self._closing:
                    raise ClosingError
                if self._withheld:
                    raise Failed(Act.RETRY, "UNSTABLE_OFFSET_COMMIT")
                return (yield from self._call_source(lambda: self._group.committed(plan.offsets)))
            case Call.WITHHELD:
                words = "a transaction that does not end holds the offsets"
                return DependencyError(words) if self._withheld else None
            case _:
                return (yield from super()._call(asked, plan))
        return None

    def _write(self, plan: Settle) -> Generator[Wait, None, None]:
        outputs = self._outputs(plan)
        self._refuse(plan, outputs)
        self._producer.send(outputs)
        yield self._before(Stage.CHECK, PRODUCE_S)
        if self._strikes(Trouble.ABORT):
            raise Failed(Act.ABORT, "TIMED_OUT")

    def _send_offsets(self, plan: Settle, metadata: Any) -> Generator[Wait, None, None]:
        yield self._before(Stage.OFFSETS, OFFSETS_S)
        if self._strikes(Trouble.CUT_OFF):
            raise CutOffError
        self._sending = plan, self._clock.now
        if self._strikes(Trouble.HANGS):
            while True:
                yield None
        self._sending = None
        self._producer.send_offsets(self._group, plan.offsets, metadata, self._notes(plan.offsets))

    def _commit(self) -> Generator[Wait, None, None]:
        """The end of the transaction, and what may come between it and its answer."""
        producer = self._producer
        if self._strikes(Trouble.UNCLEAR_LOST):
            raise LogError("_TIMED_OUT")
        if self._strikes(Trouble.UNCLEAR_LATE):

            def arrive() -> None:
                with suppress(LogError):  # a newer producer of this id was quicker
                    producer.commit()

            self._clock.later(2 * self._latency(INIT_S), arrive)
            self._clock.later(self._latency(RETRIED_S), arrive)  # the client asked again
            raise LogError("_TIMED_OUT")
        producer.commit()
        self._withheld = self._strikes(Trouble.WITHHELD)
        if self._withheld or self._strikes(Trouble.UNCLEAR_APPLIED):
            raise LogError("_TIMED_OUT")
        yield self._latency(COMMIT_S)
