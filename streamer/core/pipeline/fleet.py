"""The fleet: who computes what, until when, and who is to blame when a worker dies.

Rules of triage:
1. A worker announces each forward batch before it runs it, and what it encodes before it does. When it dies, only what
   it had announced is suspect; when it passes a lease, only what that lease was of. The rest goes back in line.
2. Suspects run alone, each after the worker's probe passed, once the work that was in line before them is out; at once
   where the worker named them.
3. A record is convicted when it ended, alone, two workers; three if the deaths were SIGKILL, which may come from
   outside (an operator, the kernel's out-of-memory killer), or the workers' own word (no memory, a broken device). The
   kinds do not add up.
4. A worker that says itself that its device is broken names the suspects, if any; it starts again, after a pause that
   grows while no forward batch succeeds and no probe passes.
5. A death between announcements makes nobody suspect the first time; when it happens twice without a success between,
   all that the worker held is suspect.
6. Workers that get ready and end before anything is answered, again and again and not by a text that is convicted for
   it, are hopeless; so are starts that all fail. The pipeline then ends with words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import repeat

from streamer.core.pipeline import conviction
from streamer.core.pipeline.flights import Flight
from streamer.core.pipeline.protocol import (
    Command,
    Dispatch,
    EncodeStarted,
    ForwardDone,
    ForwardStarted,
    KillWorker,
    StartWorker,
    Work,
    WorkerHolds,
    WorkerLost,
    WorkerReady,
)
from streamer.core.pipeline.worker import State, Worker
from streamer.core.record import Answer
from streamer.errors import DataFailure, ExitCode, FailureClass

QUEUE_PER_WORKER = 2048  # two sort windows: one in the model, one tokenised behind it
QUEUE_S = 0.5  # a quick model may hold as much as it computes in this time
MIN_SHARE = 16  # fewer computations than this are not worth dividing
RESTART_PAUSE_S = 0.5
RESTART_PAUSE_MAX_S = 30.0
SERVED_STARTS = 3  # the pause of a worker that got ready grows no further
LOAD_S = 900.0
FAILED_STARTS = 10  # of each worker, in a row, before a run without any worker ends: about two minutes
HUNG_START = 5  # one that passed `load_s` counts as so many
MAX_FRUITLESS_LOSSES = 32  # losses without an answer between, before the run ends
UNEXPLAINED_LOSSES = 4  # one that no text is suspected of counts as so many
STANDS_S = 30.0  # without a ready worker, before that is said


class Fleet:
    """Lends forward work to workers and takes it back."""

    def __init__(self, workers: int, lease_s: float, load_s: float = LOAD_S) -> None:
        self.workers = [Worker(number) for number in range(workers)]
        self.lease_s = lease_s
        self.load_s = load_s
        self.waiting: deque[Flight] = deque()
        self.suspects: deque[Flight] = deque()
        self.restarts: dict[str, int] = {}
        self.answer_bytes = 0  # of the largest answer that can be published; 0: no limit
        self.some_unwanted = False  # set when records were dropped: a flight in line may have no waiter left
        self._before_suspects = 0  # work in line that goes out before the suspects' turn
        self._unannounced_deaths = 0
        self.tried_since: float | None = None
        """When suspects were first tried alone that are still not all acquitted or convicted."""
        self._fruitless_losses = 0
        self._unready_since: float | None = None
        self._last_words = ""

    # --- facts ---------------------------------------------------------------------------------------------------

    def ready(self, fact: WorkerReady) -> None:
        """A worker waits for work."""
        worker = self.workers[fact.worker]
        worker.state, worker.served, worker.failed_starts = State.READY, True, 0
        self._unready_since = None

    def encodes(self, fact: EncodeStarted, now: float) -> None:
        """A worker begins to encode, or has ended."""
        worker = self.workers[fact.worker]
        worker.encoding = fact.numbers
        worker.encode_deadline = now + self.lease_s

    def started(self, fact: ForwardStarted, now: float) -> None:
        """A forward batch is announced; the lease starts again."""
        worker = self.workers[fact.worker]
        worker.announced = fact.numbers
        worker.deadline = now + self.lease_s

    def holds(self, fact: WorkerHolds) -> None:
        """A worker waits for something outside, or no longer does."""
        self.workers[fact.worker].holding = fact.why

    def done(self, fact: ForwardDone, now: float) -> tuple[list[Flight], list[Answer | DataFailure]]:
        """A forward batch ended; returns its flights and their outcomes, without those that we took back before."""
        worker = self.workers[fact.worker]
        worker.fruitless_starts = 0
        self._unannounced_deaths = 0
        if len(fact.numbers) != len(fact.outcomes):
            raise ValueError(f"worker {fact.worker} gave {len(fact.outcomes)} outcomes for {len(fact.numbers)} inputs")
        flights = list(map(worker.held.pop, fact.numbers, repeat(None)))
        outcomes = fact.outcomes
        if None in flights:
            outcomes = [outcome for flight, outcome in zip(flights, outcomes, strict=True) if flight is not None]
        if any(type(outcome) is Answer for outcome in fact.outcomes):
            self._fruitless_losses = 0
        # What could not be encoded is answered beside a forward batch, which goes on.
        left = [] if worker.announced == fact.numbers else [one for one in worker.announced if one in worker.held]
        if len(left) < len(worker.announced) or not left:
            worker.announced, worker.deadline = left, now + self.lease_s
        if not worker.held:
            worker.alone = False
        return [flight for flight in flights if flight is not None], outcomes

    def lost(self, fact: WorkerLost, now: float) -> list[tuple[Flight, DataFailure]]:
        """A worker's process ended; returns who is convicted."""
        worker = self.workers[fact.worker]
        held, alone = worker.held, worker.alone
        if fact.failure is not None:
            numbers = fact.suspects
        else:
            numbers = worker.late if worker.state is State.KILLED else [*worker.announced, *worker.encoding]
        blamed = [held.pop(number) for number in numbers if number in held]
        self._replace(worker, fact, now, of_use=alone and bool(blamed))
        if worker.served and (fact.failure is not None or (held and not blamed)):
            self._fruitless_losses += 1 if blamed else UNEXPLAINED_LOSSES
        convicted: list[tuple[Flight, DataFailure]] = []
        if alone:
            self.suspects.extendleft(reversed(held.values()))
            for flight in blamed:
                verdict = conviction.judge(flight, fact)
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
            # Whoever spoils workers is found before it spoils more of them.
            self._before_suspects = len(self.waiting) if fact.failure is None else 0
            self.suspects.extend(blamed)
        return convicted

    def _replace(self, worker: Worker, fact: WorkerLost, now: float, *, of_use: bool) -> None:
        """Let another process come in a lost one's place. A suspect is announced after the worker's probe passed: that
        start was `of_use`, whatever the suspect did then, and a burst of poison must not hold the others for long."""
        starts = min(worker.fruitless_starts, SERVED_STARTS) if worker.served else worker.fruitless_starts
        if of_use:
            starts = 0 if fact.failure is None else min(starts, 1)
        pause = min(RESTART_PAUSE_S * 2 ** (starts - 1), RESTART_PAUSE_MAX_S) if starts else 0.0
        failed = 0 if worker.served else worker.failed_starts + (HUNG_START if fact.hung else 1)
        self.workers[worker.number] = Worker(
            worker.number, restart_at=now + pause, fruitless_starts=starts + 1, failed_starts=failed
        )
        reason = "device" if fact.failure is FailureClass.DEVICE else "hung" if fact.hung else "died"
        self.restarts[reason] = self.restarts.get(reason, 0) + 1
        hung_start = fact.hung and not worker.served
        self._last_words = f"it did not load within load_s ({self.load_s:g} s)" if hung_start else fact.message

    # --- wishes --------------------------------------------------------------------------------------------------

    def enqueue(self, flights: Iterable[Flight]) -> None:
        """Put new computations in line."""
        self.waiting.extend(flights)

    def supervise(self, now: float) -> list[Command]:
        """Start what is to be started, kill what is past its lease."""
        commands: list[Command] = []
        for worker in self.workers:
            if worker.state is State.WAITING and now >= worker.restart_at:
                worker.state, worker.deadline = State.STARTING, now + self.load_s
                commands.append(StartWorker(worker.number))
            elif worker.state is State.STARTING and now > worker.deadline:
                worker.state = State.KILLED
                commands.append(KillWorker(worker.number, f"did not load within load_s ({self.load_s:g} s)"))
            elif worker.state is State.READY and (late := worker.overdue(now)) is not None:
                worker.state, worker.late = State.KILLED, late
                commands.append(KillWorker(worker.number))
        if self._unready_since is None and self.ready_workers == 0:
            self._unready_since = now
        if not self.suspects and not any(worker.alone for worker in self.workers):
            self.tried_since = None
        elif self.tried_since is None:
            self.tried_since = now
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
            list(dict.fromkeys([flight.segment.trace for flight in flights])) if flights[0].segment.trace else [],
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

    def leased(self, worker: Worker, now: float) -> bool:
        """Whether a worker that holds work is within its lease."""
        return worker.overdue(now) is None and max(worker.deadline, worker.encode_deadline) - now <= self.lease_s

    def overdue(self, now: float, slack_s: float) -> bool:
        """Whether a lease is past its deadline by more than `slack_s` (liveness)."""
        return any(worker.overdue(now - slack_s) is not None for worker in self.workers)

    def stands(self, now: float) -> str:
        """Since when no worker is ready, and why, as a sentence; nothing while one is, and at first."""
        since = self._unready_since
        if since is None or self.ready_workers or now - since < STANDS_S:
            return ""
        why = f"the last one ended: {self._last_words}" if self._last_words else "the model is still being loaded"
        return f"no worker has been ready for {now - since:.0f} s; {why}"

    @property
    def hopeless(self) -> tuple[ExitCode, str] | None:
        """Why to start workers no more, and the exit code; None while there is hope."""
        if self._fruitless_losses >= MAX_FRUITLESS_LOSSES:
            return ExitCode.HALTED, (
                "workers become ready and end before they answer anything, again and again; the last one ended: "
                f"{self._last_words}. The model does not work here: see the log above, fix the cause, then start again"
            )
        if not self.ready_workers and min(worker.failed_starts for worker in self.workers) >= FAILED_STARTS:
            return ExitCode.DEPENDENCY, f"no worker could be started; the last one ended: {self._last_words}"
        return None
