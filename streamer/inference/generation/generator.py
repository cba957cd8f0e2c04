"""Runs models that take many steps for an answer: each computation is answered as it ends, not batch by batch.

A model that streams holds many computations at once; they come and go while it works. What it can't hold so runs in
forward batches, and after each of their steps the streaming ones are looked after too. All that is under way stands in
each announcement, so that the driver knows the suspects of a crash; announcing it again while it makes progress renews
the lease.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from streamer.core.pipeline.pass_spans import Forwarded
from streamer.core.record import Answer
from streamer.errors import DataFailure, FailureClass
from streamer.inference.channel import Done, Holding, Started
from streamer.inference.model import Encoded, Model
from streamer.inference.worker.forward_traces import ForwardTraces
from streamer.inference.worker.forwarder import Computation, Forwarder, OnError, WorkerFailureError, ignore
from streamer.inference.worker.trouble import place_of

_RENEW_S = 1.0
# How long new work waits at most while the model is at work and nothing ends.
_COLLECT_S = 0.02


@runtime_checkable
class SteppingModel(Model, Protocol):
    """A model whose forward pass takes many steps: it calls `on_step` after each."""

    on_step: Callable[[], None]


@runtime_checkable
class StreamingModel(SteppingModel, Protocol):
    """A model that also works on many computations beside `forward`, in a thread of its own. Called from one thread."""

    @property
    def capacity(self) -> int:
        """How many computations it may hold."""
        ...

    @property
    def steps(self) -> int:
        """Grows while it works."""
        ...

    def streams(self, encoded: Encoded) -> bool:
        """Whether it can take this one so; else `forward` runs it."""
        ...

    def add(self, number: int, encoded: Encoded) -> None:
        """Begin."""
        ...

    def collect(self, timeout_s: float) -> Sequence[tuple[int, Answer | DataFailure | None]]:
        """What ended, waiting up to `timeout_s` for something; None for what `forward` must run instead."""
        ...


Emit = Callable[[Started | Done | Holding], object]


class Announcer:
    """Between a forwarder and the wire: adds what streams to its announcements, and says them again while there is
    progress."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.streaming: dict[int, float] = {}
        """When each computation that streams began."""
        self._batch: list[int] = []
        self._said = 0.0

    def pass_on(self, message: Started | Done) -> None:
        """A forwarder's own message."""
        if isinstance(message, Started):
            self._batch = message.numbers
            self.announce()
            return
        self._batch = []
        self.done(message)

    def done(self, message: Done) -> None:
        """Outcomes; what is still under way is announced again, since a driver takes outcomes for the end of all."""
        self._emit(message)
        if self.streaming or self._batch:
            self.announce()

    def announce(self) -> None:
        """All that is under way."""
        self._emit(Started([*self._batch, *self.streaming]))
        self._said = time.monotonic()

    def hold(self, why: str) -> None:
        """What is under way waits for something outside; "": no longer."""
        self._emit(Holding(why))

    def renew(self) -> None:
        """There was progress."""
        if (self._batch or self.streaming) and time.monotonic() - self._said >= _RENEW_S:
            self.announce()


class Window(Protocol):
    """Where computations wait: `worker.Pool`."""

    def take(self, *, wait: bool = True) -> list[Computation] | Iterator[Computation] | None:
        """Computations, or an iterator over suspects; None when there are none, or no more shall be taken."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether the worker shall end."""
        ...


class Generator:
    """The loop of a worker whose model streams."""

    def __init__(
        self,
        model: StreamingModel,
        emit: Emit,
        pool: Window,
        batch_tokens: int = 0,
        on_error: OnError = ignore,
        traces: ForwardTraces | None = None,
    ) -> None:
        self._model = model
        self._pool = pool
        self._announcer = Announcer(emit)
        self._traces = traces or ForwardTraces()
        self._forwarder = Forwarder(model, self._announcer.pass_on, batch_tokens, on_error, self._traces)
        self._backlog: deque[Computation] = deque()
        self._plain: list[Computation] = []
        self._suspects: Iterator[Computation] | None = None
        self._running: dict[int, Computation] = {}
        self._steps = 0
        self._holding = ""
        self._broken: WorkerFailureError | None = None
        model.on_step = self._on_step

    def run_probe(self) -> None:
        """As the forwarder does; streaming was checked when the model was loaded."""
        self._forwarder.run_probe()

    def run(self) -> None:
        """Until the pool is stopped. Raises `WorkerFailureError` when the worker must end."""
        while not self._pool.stopped:
            self._take(wait=not (self._running or self._backlog or self._plain or self._suspects))
            self._fill()
            if self._suspects:
                suspects, self._suspects = self._suspects, None
                self._forwarder.run_alone(suspects)
            elif self._plain:
                self._forwarder.run(self._next_plain())
            elif self._running:
                self._collect(_COLLECT_S)
            if self._broken is not None:
                raise self._broken

    def _next_plain(self) -> list[Computation]:
        """The shortest, and what takes at most twice as long: none of them waits for a long one."""
        most = 2 * min(one.encoded.length for one in self._plain)
        chosen = [one for one in self._plain if one.encoded.length <= most]
        self._plain = [one for one in self._plain if one.encoded.length > most]
        return chosen

    def _on_step(self) -> None:
        """After each step of a forward batch."""
        if not (self._running or self._backlog):
            self._announcer.renew()
            return
        try:
            self._take(wait=False)
            self._collect(0.0)
            self._fill()
        except WorkerFailureError as failure:  # not this batch's: told when its pass is over
            self._broken = failure

    def _take(self, *, wait: bool) -> None:
        taken = self._pool.take(wait=wait)
        if taken is None:
            return
        if not isinstance(taken, list):
            self._suspects = taken
            return
        for computation in taken:
            if self._model.streams(computation.encoded):
                self._backlog.append(computation)
            else:
                self._plain.append(computation)

    def _fill(self) -> None:
        """Let in what there is room for; announced before it begins."""
        room = self._model.capacity - len(self._running)
        fresh = [self._backlog.popleft() for _ in range(min(room, len(self._backlog)))]
        if not fresh:
            return
        now = time.perf_counter()
        for computation in fresh:
            self._running[computation.number] = computation
            self._announcer.streaming[computation.number] = now
        self._announcer.announce()
        for computation in fresh:
            self._guard(lambda one=computation: self._model.add(one.number, one.encoded))  # type: ignore[misc]

    def _collect(self, timeout_s: float) -> None:
        ended: list[tuple[int, Answer | DataFailure | None]] = []
        self._guard(lambda: ended.extend(self._model.collect(timeout_s)))
        answered: list[tuple[int, Answer | DataFailure]] = []
        began = now = time.perf_counter()
        for number, answer in ended:
            computation = self._running.pop(number)
            its_began = self._announcer.streaming.pop(number)
            began = min(began, its_began)
            if answer is None:
                self._plain.append(computation)
            else:
                answered.append((number, answer))
                tokens = computation.encoded.tokens
                generated = max(0, answer.tokens - tokens) if isinstance(answer, Answer) else 0
                self._traces.streamed(computation, now - its_began, tokens, generated)
        if answered:
            self._announcer.done(_done(answered, now - began, self._traces.take()[0]))
        holding: str = getattr(self._model, "holding", "")
        if holding != self._holding:
            self._holding = holding
            self._announcer.hold(holding)
        steps = self._model.steps
        if steps != self._steps:
            self._steps = steps
            self._announcer.renew()

    def _guard(self, call: Callable[[], object]) -> None:
        """What streaming itself can't fix a fresh worker may; all that streams is suspect, and runs alone in `forward`
        there."""
        try:
            call()
        except WorkerFailureError:
            raise
        except Exception as error:
            place = place_of(error)
            message = f"continuous batching can't continue: {type(error).__name__} at {place}"
            raise WorkerFailureError(FailureClass.DEVICE, message, suspects=list(self._running)) from None


def _done(ended: Sequence[tuple[int, Answer | DataFailure]], seconds: float, forwarded: list[Forwarded]) -> Done:
    answers = [one if isinstance(one, Answer) else None for _, one in ended]
    tokens = [answer.tokens if answer is not None else 0 for answer in answers]
    return Done(
        numbers=[number for number, _ in ended],
        outputs=[answer.output if answer is not None else None for answer in answers],
        tokens=tokens,
        truncated=[index for index, answer in enumerate(answers) if answer is not None and answer.truncated],
        failures={index: one for index, (_, one) in enumerate(ended) if isinstance(one, DataFailure)},
        real_tokens=sum(tokens),
        computed_tokens=sum(tokens),
        seconds=seconds,
        passes=1,
        measures=[answer.measures if answer is not None else b"" for answer in answers],
        forwarded=forwarded,
    )
