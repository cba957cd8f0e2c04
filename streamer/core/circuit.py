"""A circuit breaker: stop asking a dependency that fails, and try again after a growing pause."""

from __future__ import annotations

from enum import StrEnum


class CircuitState(StrEnum):
    """Closed lets calls through, open lets none, half-open lets one through and waits for its end."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit:
    """Opens when failures outweigh successes, probes after a pause that doubles from `pause_s` to `max_pause_s`.

    A failure adds 1 to a score and a success takes 1/8 off, so that a dependency that fails now and then stays in
    use, one that fails in more than a ninth of the calls does not. At a score of `failures` the circuit opens. After
    a good probe it stands one failure below that: a flapping dependency is dropped at once, and the pause goes on
    growing until the score is back at 0. Times are seconds of any one monotonic clock.
    """

    def __init__(self, failures: int = 3, pause_s: float = 0.5, max_pause_s: float = 5.0) -> None:
        self.state = CircuitState.CLOSED
        self.probe_at = 0.0
        self._limit = float(failures)
        self._first_pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._pause_s = pause_s
        self._score = 0.0

    def allows(self, now: float) -> bool:
        """Whether a call may be made now. Once it says so while open, that call is the probe: tell how it ended."""
        if self.state is CircuitState.OPEN and now >= self.probe_at:
            self.state = CircuitState.HALF_OPEN
            return True
        return self.state is CircuitState.CLOSED

    def succeeded(self) -> None:
        """An allowed call went well."""
        if self.state is CircuitState.HALF_OPEN:
            self.state = CircuitState.CLOSED
            self._score = self._limit - 1.0
        elif self.state is CircuitState.CLOSED:
            self._score = max(0.0, self._score - 0.125)
            if self._score == 0.0:
                self._pause_s = self._first_pause_s

    def failed(self, now: float) -> None:
        """An allowed call failed; one that began before the circuit opened changes nothing more."""
        if self.state is CircuitState.OPEN:
            return
        self._score += 1.0
        if self.state is CircuitState.HALF_OPEN or self._score >= self._limit:
            self.state = CircuitState.OPEN
            self.probe_at = now + self._pause_s
            self._pause_s = min(2.0 * self._pause_s, self._max_pause_s)
