"""The fleet: who computes what, until when, and who is to blame when a worker dies.

Rules of triage:
1. A worker announces each forward batch before it runs it. When the worker dies or passes its lease, only what it
   had announced is suspect; the rest of its work goes back in line.
2. Suspects run alone, each after the worker's probe passed, once the work that was in line before them is out.
3. A record is convicted when it killed or hung, alone, two workers; three if the deaths were SIGKILL, which may come
   from outside (an operator, the kernel's out-of-memory killer). The two kinds do not add up.
4. A worker that says itself that its device is broken makes nobody suspect; it starts again, after a pause that
   grows while no forward batch succeeds and no probe passes.
5. A death between two announcements makes nobody suspect the first time; when it happens twice without a success
   between, all that the worker held is suspect.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import repeat

from streamer.core.pipeline.flights import Flight
from streamer.core.pipeline.protocol import (
    Command,
    Dispatch,
    ForwardDone,
    ForwardStarted,
    KillWorker,
    StartWorker,
    Work,
    WorkerLost,
    WorkerReady,
)
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, FailureClass

CONVICT_KILLS = 2
CONVICT_SIGKILLS = 3
QUEUE_PER_WORKER = 2048  # two sort windows: one in the model, one tokenised behind it
QUEUE_S = 0.5  # a quick model may hold as much as it computes in this time
MIN_SHARE = 16  # fewer computations than this are not worth dividing
RESTART_PAUSE_S = 0.5
RESTART_PAUSE_MAX_S = 30.0


class State(Enum):
    """Where a worker's process is."""

    STARTING = auto()
    READY = auto()
    KILLED = auto()  # by us; its end is not reported yet
    WAITING = auto()  # to be started at `restart_at`


@dataclass(slots=True)
class Worker:
    """One worker and what it holds. `announced` is the forward batch that it runs now."""

    number: int
    state: State = State.WAITING
    restart_at: float = 0.0
    held: dict[int, Flight] = field(default_factory=dict)
    announced: list[int] = field(default_factory=list)
    alone: bool = False
    deadline: float = 0.0
    fruitless_starts: int = 0

    def room(self, queue: int) -> bool:
        """Whether more work may be queued at it, `queue` being the most computations that it may hold."""
        return self.state is State.READY and not self.alone and len(self.held) < queue


class Fleet:
    """Lends forward work to workers and takes it back."""

    def __init__(self, workers: int, lease_s: float) -> None:
        self.workers = [Worker(number) for number in range(workers)]
        self.lease_s = lease_s
        self.waiting: deque[Flight] = deque()
        self.suspects: deque[Flight] = deque()
        self.restarts: dict[str, int] = {}
        self.answer_bytes = 0  # of the largest answer that can be published; 0: no limit
        self.some_unwanted = False  # set when records were dropped: a flight in line may have no waiter left
        self._before_suspects = 0  # work in line that goes out before the suspects' turn
        self._unannounced_deaths = 0

    # --- facts ---------------------------------------------------------------------------------------------------

    def ready(self, fact: WorkerReady) -> None:
        """A worker waits for work."""
        self.workers[fact.worker].state = State.READY

    def started(self, fact: ForwardStarted, now: float) -> None:
        """A forward batch is announced; the lease starts anew."""
        worker = self.workers[fact.worker]
        worker.announced = fact.numbers
        worker.deadline = now + self.lease_s

    def done(self, fact: ForwardDone, now: float) -> tuple[list[Flight], list[Answer | DataFailure]]:
        """A forward batch ended; returns its flights and their outcomes, without those that we took back before."""
        worker = self.workers[fact.worker]
        worker.announced = []
        worker.deadline = now + self.lease_s
        worker.fruitless_starts = 0
        self._unannounced_deaths = 0
        if len(fact.numbers) != len(fact.outcomes):
            raise ValueError(f"worker {fact.worker} gave {len(fact.outcomes)} outcomes for {len(fact.numbers)} inputs")
        flights = list(map(worker.held.pop, fact.numbers, repeat(None)))
        outcomes = fact.outcomes
        if None in flights:
            outcomes = [outcome for flight, outcome in zip(flights, outcomes, strict=True) if flight is not None]
        if not worker.held:
            worker.alone = False
        return [flight for flight in flights if flight is not None], outcomes

    def lost(self, fact: WorkerLost, now: float) -> list[tuple[Flight, DataFailure]]:
        """A worker's process ended; returns who is convicted."""
        worker = self.workers[fact.worker]
        held, announced, alone = worker.held, worker.announced, worker.alone
        # A suspect is announced after the worker's probe passed: that start was of use, whatever the suspect did then.
        starts = 0 if alone and announced and fact.failure is None else worker.fruitless_starts
        pause = min(RESTART_PAUSE_S * 2 ** (starts - 1), RESTART_PAUSE_MAX_S) if starts else 0.0
        self.workers[fact.worker] = Worker(worker.number, restart_at=now + pause, fruitless_starts=starts + 1)
        reason = "device" if fact.failure is FailureClass.DEVICE else "hung" if fact.hung else "died"
        self.restarts[reason] = self.restarts.get(reason, 0) + 1
        blamed = [held.pop(number) for number in announced if number in held] if fact.failure is None else []
        convicted: list[tuple[Flight, DataFailure]] = []
        if alone:
            if fact.failure is not None:
                blamed = []
            self.suspects.extendleft(reversed(held.values()))
            for flight in blamed:
                verdict = self._judge(flight, fact)
                if verdict is None:
                    self.suspects.append(flight)
                else:
                    convicted.append((flight, verdict))
            return convicted
        if not blamed and held and fact.failure is None:
            self._unannounced_deaths += 1
            if self._unannounced_deaths > 1:
                blamed, held = list(held.values()), {}
        self.waiting.extendleft(reversed(held.values()))
        if blamed:
            self._before_suspects = len(self.waiting)
            self.suspects.extend(blamed)
        return convicted

    @staticmethod
    def _judge(flight: Flight, fact: WorkerLost) -> DataFailure | None:
        """Rule 3. A hang is our own SIGKILL, so it counts as a full death."""
        if fact.signal == signal.SIGKILL and not fact.hung:
            flight.sigkills += 1
        else:
            flight.kills += 1
        if flight.kills < CONVICT_KILLS and flight.sigkills < CONVICT_SIGKILLS:
            return None
        attempts = flight.kills + flight.sigkills
        if fact.hung:
            return DataFailure(
                Code.INFER_WORKER_HUNG,
                f"the forward pass of this text alone did not end within lease_s, on {attempts} fresh workers",
                attempts=attempts,
            )
        name = signal.Signals(fact.signal).name if fact.signal else "exit"
        return DataFailure(
            Code.INFER_WORKER_KILLED,
            f"the forward pass of this text alone ended the worker process ({name}), on {attempts} fresh workers",
            attempts=attempts,
        )

    # --- wishes --------------------------------------------------------------------------------------------------

    def enqueue(self, flights: Iterable[Flight]) -> None:
        """Put new computations in line."""
        self.waiting.extend(flights)

    def supervise(self, now: float) -> list[Command]:
        """Start what is to be started, kill what is past its lease."""
        commands: list[Command] = []
        for worker in self.workers:
            if worker.state is State.WAITING and now >= worker.restart_at:
                worker.state = State.STARTING
                commands.append(StartWorker(worker.number))
            elif worker.state is State.READY and worker.held and now > worker.deadline:
                worker.state = State.KILLED
                commands.append(KillWorker(worker.number))
        return commands

    def dispatch(self, now: float, rate_per_s: float) -> tuple[list[Command], list[Flight]]:
        """Lend work; returns the commands, and the flights that nobody waits for any more. `rate_per_s` is how many
        computations land in a second: a quick model may hold more."""
        queue = max(QUEUE_PER_WORKER, int(rate_per_s * QUEUE_S))
        commands: list[Command] = []
        unwanted: list[Flight] = []
        if self.suspects and self._before_suspects <= 0:
            reserved = self._dispatch_suspects(now, commands, unwanted)
        else:
            reserved = None
        free = [worker for worker in self.workers if worker is not reserved and worker.room(queue)]
        share = max(-(-len(self.waiting) // max(len(free), 1)), MIN_SHARE)
        while self.waiting and free:
            worker = min(free, key=lambda candidate: len(candidate.held))
            chunk = self._take(min(share, queue - len(worker.held)), unwanted)
            if chunk:
                commands.append(self._lend(worker, chunk, now, alone=False))
            free = [worker for worker in free if worker.room(queue)]
        return commands, unwanted

    def _dispatch_suspects(self, now: float, commands: list[Command], unwanted: list[Flight]) -> Worker | None:
        """Give the suspects to one idle worker; or reserve the first ready one until it is idle."""
        if any(worker.alone for worker in self.workers):
            return None
        ready = [worker for worker in self.workers if worker.state is State.READY]
        if not ready:
            return None
        worker = min(ready, key=lambda candidate: len(candidate.held))
        if not worker.held:
            wanted: list[Flight] = []
            while self.suspects:
                flight = self.suspects.popleft()
                (wanted if flight.wanted else unwanted).append(flight)
            if wanted:
                worker.alone = True
                commands.append(self._lend(worker, wanted, now, alone=True))
        return worker

    def _take(self, most: int, unwanted: list[Flight]) -> list[Flight]:
        """The next flights in line; those that nobody waits for are looked for only after something was dropped."""
        waiting = self.waiting
        if most >= len(waiting):
            chunk = list(waiting)
            waiting.clear()
        else:
            chunk = [waiting.popleft() for _ in range(most)]
        self._before_suspects -= len(chunk)
        if self.some_unwanted:
            unwanted += [flight for flight in chunk if not flight.wanted]
            chunk = [flight for flight in chunk if flight.wanted]
            self.some_unwanted = bool(waiting)
        return chunk

    def _lend(self, worker: Worker, flights: list[Flight], now: float, *, alone: bool) -> Dispatch:
        if not worker.held:
            worker.deadline = now + self.lease_s
        numbers = [flight.number for flight in flights]
        worker.held.update(zip(numbers, flights, strict=True))
        events = [flight.event for flight in flights]
        pairs = [event.text_pair for event in events]
        params = [event.params for event in events]
        nothing = len(events)
        work = Work(
            numbers,
            [event.text for event in events],
            pairs if pairs.count(None) < nothing else None,
            params if params.count(None) < nothing else None,
            alone,
            self.answer_bytes,
        )
        return Dispatch(worker.number, work)

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def ready_workers(self) -> int:
        """How many workers can take work."""
        return sum(worker.state is State.READY for worker in self.workers)

    @property
    def held(self) -> int:
        """How many computations are at workers."""
        return sum(len(worker.held) for worker in self.workers)

    def drop_waiting(self) -> list[Flight]:
        """Take all that no worker holds out of line."""
        dropped = [*self.waiting, *self.suspects]
        self.waiting.clear()
        self.suspects.clear()
        return dropped

    def overdue(self, now: float, slack_s: float) -> bool:
        """Whether a lease is past its deadline by more than `slack_s` (liveness)."""
        return any(worker.held and now > worker.deadline + slack_s for worker in self.workers)
