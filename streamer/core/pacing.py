"""How many requests a server gets at a time, and when the next may start.

Additive increase, multiplicative decrease: more in flight for as long as answers come in good time, half as many when
they take so long that requests would soon be given up, or when the server says that it is overloaded. A server that is
down is asked by one request at a time, after pauses that grow.

Times are seconds of a monotonic clock; `jitter` is a random number of [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST: Final = 8
FAILING: Final = 3
"""So many waves of requests that fail in a row, and the server counts as down."""
_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 20.0
_LONGEST_ASKED_S: Final = 300.0


def pause_s(attempt: int, jitter: float) -> float:
    """How long to wait before attempt number `attempt` (from 0) is repeated."""
    return float(min(_LONGEST_PAUSE_S, _PAUSE_S * 2 ** min(attempt, 16))) * (0.5 + jitter / 2)


@dataclass(slots=True)
class Pacing:
    """Of one client of one server; `most` is never exceeded, and an answer that takes `slow_s` is late. Each request
    that `began` ends in one of `answered`, `overloaded`, `failed` and `dropped`."""

    most: int
    slow_s: float
    limit: float = 0.0
    in_flight: int = 0
    failures: int = 0
    """Waves in a row that failed."""
    resumes_at: float = 0.0
    _failed_at: float = float("-inf")
    _cut_at: float = float("-inf")
    _doubling: bool = True

    def __post_init__(self) -> None:
        self.limit = float(min(FIRST, self.most))

    @property
    def is_failing(self) -> bool:
        """Whether the server counts as down."""
        return self.failures >= FAILING

    def room(self, now: float) -> int:
        """How many requests may start now."""
        if now < self.resumes_at:
            return 0
        return max(0, (1 if self.is_failing else int(self.limit)) - self.in_flight)

    def began(self) -> None:
        """A request starts."""
        self.in_flight += 1

    def dropped(self) -> None:
        """A request ended and says nothing of the server's load."""
        self.in_flight -= 1

    def answered(self, began: float, now: float) -> None:
        """A request was answered, be it with a refusal of its text."""
        full = self.in_flight >= int(self.limit)
        self.in_flight -= 1
        self.failures = 0
        if now - began > self.slow_s:
            self._cut(began, now)
        elif full:
            self.limit = min(float(self.most), self.limit + (1.0 if self._doubling else 1.0 / self.limit))

    def wait(self, now: float, for_s: float | None) -> None:
        """Start none for so long, as far as that is sensible."""
        self.resumes_at = max(self.resumes_at, now + min(for_s or 0.0, _LONGEST_ASKED_S))

    def overloaded(self, began: float, now: float, asked_s: float | None, jitter: float) -> None:
        """The server asks for less (429), and to wait for `asked_s` if it says so."""
        self.in_flight -= 1
        self._cut(began, now)
        self._count_failure(began, now)
        self.wait(now, pause_s(self.failures - 1, jitter))
        self.wait(now, asked_s)

    def failed(self, began: float, now: float, jitter: float, *, down: bool = False, slow: bool = False) -> None:
        """A request failed for the server's sake; `down`: nobody is there at all, `slow`: it did not answer in time."""
        self.in_flight -= 1
        if slow:
            self._cut(began, now)
        self._count_failure(began, now)
        if down:
            self.failures = max(self.failures, FAILING)
        if self.is_failing:
            self.limit, self._doubling = 1.0, True
            self.resumes_at = max(self.resumes_at, now + pause_s(self.failures - FAILING, jitter))

    def _count_failure(self, began: float, now: float) -> None:
        """All that were under way when the first of them failed are one failure."""
        if began >= self._failed_at:
            self.failures += 1
            self._failed_at = now

    def _cut(self, began: float, now: float) -> None:
        """Halve, once for all that were under way then."""
        if began >= self._cut_at:
            self.limit, self._doubling, self._cut_at = max(1.0, self.limit / 2), False, now
