"""Workers that follow a script: which text is answered, which makes the model raise, kills the worker, or hangs."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from streamer.core.pipeline.protocol import ForwardDone, ForwardStarted, ModelCard, Work, WorkerLost, WorkerReady
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, FailureClass
from streamer.ports import Post
from streamer.testing.clock import Latency, ManualClock, exactly

LOAD_S = 0.3
FORWARD_S = 0.02
PROBE_S = 0.005
ENCODE_S = 0.002


@dataclass(frozen=True, slots=True)
class Raises:
    """The model raises for this text."""

    exception: str = "ValueError"


@dataclass(frozen=True, slots=True)
class Kills:
    """The forward pass of this text ends the worker's process."""

    signal: int = signal.SIGSEGV


@dataclass(frozen=True, slots=True)
class Hangs:
    """The forward pass of this text does not end."""


Reaction = Answer | Raises | Kills | Hangs
Script = Callable[[str], Reaction]


@dataclass(slots=True, eq=False)
class _Process:
    """One worker's process. `queue` holds its forward batches to come, `running` the one that it announced."""

    number: int
    ready: bool = False
    dead: bool = False
    hung: bool = False
    hanging: tuple[int, str] | None = None  # the computation that it hangs in, if the script says so
    busy: bool = False
    alone: bool = False
    queue: deque[list[tuple[int, str]]] = field(default_factory=deque)
    probes: int = 0
    running: list[tuple[int, str]] = field(default_factory=list)


class ScriptedWorkers:
    """`streamer.ports.Workers` on a manual clock. They announce forward batches, halve what raises, and run suspects
    alone behind a probe, as real workers do. The next `failing_starts` starts fail, and the next `failing_encodes`
    works end the process before anything is announced.

    `batch_size` gives the size of each forward batch. `on_death` is told of each death that the script wants: number
    and text of the computation at fault. The faults from outside are methods: `die`, `hang`, `break_device`,
    `break_model`, `replace_model`.
    """

    def __init__(
        self,
        post: Post,
        clock: ManualClock,
        card: ModelCard,
        script: Script,
        *,
        latency: Latency = exactly,
        batch_size: Callable[[], int] = lambda: 16,
        on_death: Callable[[int, str], None] = lambda *_: None,
    ) -> None:
        self.failing_starts = 0
        self.failing_encodes = 0
        self.slowness = 1.0
        self._post = post
        self._clock = clock
        self._card = card
        self._script = script
        self._latency = latency
        self._batch_size = batch_size
        self._on_death = on_death
        self._processes: dict[int, _Process] = {}
        self._closed = False

    # --- the port --------------------------------------------------------------------------------------------------

    def start(self, worker: int) -> None:
        """Ready after the model's load; or lost with a device failure while `failing_starts` is above 0."""
        process = self._processes[worker] = _Process(worker)

        def loaded() -> None:
            if self._closed or process.dead:
                return
            if self.failing_starts:
                self.failing_starts -= 1
                self._lose(process, WorkerLost(worker, failure=FailureClass.DEVICE, message="no such device"))
                return
            process.ready = True
            self._post(WorkerReady(worker, self._card))

        self._clock.later(self._latency(LOAD_S), loaded)

    def send(self, worker: int, work: Work) -> None:
        """Cut the work into forward batches and run them one after the other."""
        process = self._processes[worker]
        items = list(zip(work.numbers, work.texts, strict=True))
        if work.alone:
            process.alone = True
            process.probes += 1
            process.queue.extend([item] for item in items)
        else:
            items.sort(key=lambda item: -len(item[1]))
            while items:
                size = self._batch_size()
                process.queue.append(items[:size])
                items = items[size:]
        if not process.busy:
            process.busy = True
            self._clock.later(self._latency(ENCODE_S), lambda: self._encoded(process))

    def kill(self, worker: int) -> None:
        """Our own kill -9."""
        process = self._processes[worker]
        if not process.dead:
            if process.hanging is not None:
                self._on_death(*process.hanging)
            self._lose(process, WorkerLost(worker, signal=signal.SIGKILL, hung=True))

    def close(self, timeout_s: float) -> None:
        """All end; nothing more is posted."""
        self._closed = True
        for process in self._processes.values():
            process.dead = True

    # --- faults from outside -----------------------------------------------------------------------------------------

    def alive(self) -> list[int]:
        """Workers that are ready and have a process."""
        return [number for number, process in self._processes.items() if process.ready and not process.dead]

    def judging(self) -> list[int]:
        """Workers that run a suspect alone right now."""
        return [number for number in self.alive() if self._processes[number].alone and self._processes[number].running]

    def die(self, worker: int, number: int = signal.SIGKILL) -> None:
        """The process ends by a signal, whatever it does."""
        self._lose(self._processes[worker], WorkerLost(worker, signal=number))

    def break_device(self, worker: int) -> None:
        """The worker finds its device broken, says so and ends."""
        self._lose(self._processes[worker], WorkerLost(worker, failure=FailureClass.DEVICE, message="context broken"))

    def break_model(self, worker: int) -> None:
        """The model fails for everything; the worker says so and ends."""
        self._lose(self._processes[worker], WorkerLost(worker, failure=FailureClass.CODE, message="it always raises"))

    def replace_model(self, worker: int) -> None:
        """Other files are put in the model's place, which the next start finds: this worker ends by its device."""
        self._card = msgspec.structs.replace(self._card, revision=f"after {self._card.revision}")
        self.break_device(worker)

    def running(self) -> list[int]:
        """Workers that run a forward batch right now, and no suspect."""
        return [
            number for number in self.alive() if self._processes[number].running and not self._processes[number].alone
        ]

    def hang(self, worker: int) -> None:
        """What it runs never ends."""
        self._processes[worker].hung = True

    # --- running -----------------------------------------------------------------------------------------------------

    def _encoded(self, process: _Process) -> None:
        """Texts are tokenised before anything is announced; a death in there has no suspect."""
        if process.dead:
            return
        if self.failing_encodes:
            self.failing_encodes -= 1
            self.die(process.number)
            return
        self._next(process)

    def _next(self, process: _Process) -> None:
        """Announce the next forward batch and run it; before suspects the probe."""
        if process.probes:
            process.probes -= 1
            self._clock.later(self._latency(PROBE_S), lambda: None if process.dead else self._next(process))
            return
        if not process.queue:
            process.busy = process.alone = False
            return
        batch = process.running = process.queue.popleft()
        self._post(ForwardStarted(process.number, [number for number, _ in batch]))
        self._clock.later(self._latency(FORWARD_S) * self.slowness, lambda: self._end_of(process, batch))

    def _end_of(self, process: _Process, batch: list[tuple[int, str]]) -> None:
        if process.dead or process.hung:
            return
        numbers = [number for number, _ in batch]
        reactions = [self._script(text) for _, text in batch]
        process.running = []
        raised = False
        for (number, text), reaction in zip(batch, reactions, strict=True):
            if isinstance(reaction, Kills):
                self._on_death(number, text)
                self._lose(process, WorkerLost(process.number, signal=reaction.signal))
                return
            if isinstance(reaction, Hangs):
                process.hung = True
                process.hanging = (number, text)
                return
            raised = raised or isinstance(reaction, Raises)
        if raised and len(batch) > 1:
            half = len(batch) // 2
            process.queue.extendleft([batch[half:], batch[:half]])
        else:
            self._post(ForwardDone(process.number, numbers, [_outcome(reaction) for reaction in reactions]))
        self._next(process)

    def _lose(self, process: _Process, fact: WorkerLost) -> None:
        process.dead = True
        process.ready = False
        if not self._closed:
            self._post(fact)


def _outcome(reaction: Reaction) -> Answer | DataFailure:
    if isinstance(reaction, Answer):
        return reaction
    assert isinstance(reaction, Raises)
    message = f"the model raised {reaction.exception} for this text alone"
    return DataFailure(Code.INFER_EXCEPTION, message, reaction.exception)
