"""A clock that moves when told, and what is to happen on it: the one event queue of tests without threads."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator

Latency = Callable[[float], float]
"""How many seconds something takes that takes `mean_s` on average: a simulation draws it, `exactly` is the mean."""

Wait = float | None
"""What a task yields: seconds to sleep, or None to wait until somebody wakes it."""


def exactly(mean_s: float) -> float:
    """Everything takes as long as it takes on average."""
    return mean_s


class ManualClock:
    """Virtual time in seconds. Calling it gives the time, as `time.monotonic` does; it passes only in `step` and
    `advance`, which run what was planned with `later`, in the order of time, then of planning."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._planned = 0

    def __call__(self) -> float:
        return self.now

    def later(self, delay_s: float, action: Callable[[], object]) -> None:
        """Plan an action."""
        self._planned += 1
        heapq.heappush(self._events, (self.now + delay_s, self._planned, action))

    def step(self) -> bool:
        """Go to the next planned action and run it; returns whether there was one."""
        if not self._events:
            return False
        self.now, _, action = heapq.heappop(self._events)
        action()
        return True

    def advance(self, seconds: float) -> None:
        """Let this much time pass, and run all that falls into it."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.step()
        self.now = until

    def advance_until(self, condition: Callable[[], bool], within_s: float = 60.0) -> None:
        """Run what is planned until a condition holds. Raises TimeoutError when `within_s` pass before."""
        deadline = self.now + within_s
        while not condition():
            if not self._events or self._events[0][0] > deadline:
                raise TimeoutError(f"not within {within_s} s")
            self.step()


class Task:
    """A thread's stand-in: a generator that yields where the thread would sleep (seconds) or wait (None)."""

    def __init__(self, clock: ManualClock, run: Generator[Wait, None, None]) -> None:
        self._clock = clock
        self._run = run
        self._waiting = False
        self._woken = False
        self._ended = False

    def start(self) -> None:
        """Begin, at once."""
        self._clock.later(0.0, self._resume)

    def wake(self) -> None:
        """End the task's waiting; one that does not wait now will not wait the next time."""
        if self._waiting:
            self._waiting = False
            self._clock.later(0.0, self._resume)
        else:
            self._woken = True

    def end(self) -> None:
        """Stop it where it stands, as a kill -9 does."""
        self._ended = True

    def _resume(self) -> None:
        while not self._ended:
            try:
                wait = next(self._run)
            except StopIteration:
                self._ended = True
                return
            if wait is not None:
                self._clock.later(wait, self._resume)
                return
            if not self._woken:
                self._waiting = True
                return
            self._woken = False
