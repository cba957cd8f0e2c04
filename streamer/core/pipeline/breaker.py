"""The breaker: a bad deployment must stop the pipeline, not drain the input into the dead-letter topic."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Trips when more than `share` of the last `window` outcomes are data failures of the model, with at least
    `minimum` outcomes seen. The first `accept` failures of this run count as successes (`--accept-dead-letters`)."""

    share: float = 0.5
    window: int = 1000
    minimum: int = 200
    accept: int = 0


@dataclass(slots=True)
class Breaker:
    """Counts outcomes as they are about to be settled."""

    policy: BreakerPolicy
    _recent: deque[tuple[int, int]] = field(default_factory=deque)
    _seen: int = 0
    _failed: int = 0
    _accepted: int = 0
    _last: tuple[int, int, int] = (0, 0, 0)

    def allows(self, outcomes: int, failures: int) -> bool:
        """Whether these pending outcomes, of which `failures` failed, may be settled; if so, they are counted."""
        accepted = min(failures, self.policy.accept - self._accepted)
        counted = failures - accepted
        seen, failed = self._seen + outcomes, self._failed + counted
        if counted and seen >= self.policy.minimum and failed > self.policy.share * seen:
            return False
        self._accepted += accepted
        self._recent.append((outcomes, counted))
        self._last = outcomes, counted, accepted
        self._seen, self._failed = seen, failed
        while self._seen - self._recent[0][0] >= self.policy.window:
            gone, gone_failed = self._recent.popleft()
            self._seen -= gone
            self._failed -= gone_failed
        return True

    def taken_back(self) -> None:
        """The outcomes that were allowed last are not settled."""
        outcomes, counted, accepted = self._last
        if self._recent and self._recent[-1] == (outcomes, counted):
            self._recent.pop()
            self._seen -= outcomes
            self._failed -= counted
        self._accepted -= accepted
        self._last = 0, 0, 0

    def failed_late(self, failures: int) -> None:
        """So many of those that were allowed failed after all."""
        outcomes, counted = self._recent[-1]
        self._recent[-1] = (outcomes, counted + failures)
        self._failed += failures
