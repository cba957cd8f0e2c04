"""Single flight: a computation belongs to the set of records that wait for it, not to a micro-batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.core.record import Answer, Outcome, Segment, TextEvent
from streamer.errors import DataFailure

Key = bytes | str | tuple[str, str | None, bytes] | int


@dataclass(slots=True, eq=False)
class Flight:
    """One input being looked up or computed. `kills` and `sigkills` count the workers that died of it alone."""

    number: int
    key: Key
    event: TextEvent
    waiters: list[tuple[Segment, int]]
    kills: int = 0
    sigkills: int = 0

    @property
    def wanted(self) -> bool:
        """Whether a record that is still ours waits for it."""
        return any(not segment.dropped for segment, _ in self.waiters)

    @property
    def size_bytes(self) -> int:
        """A stand-in for its cost: the length of its text."""
        return len(self.event.text)


@dataclass(slots=True)
class Flights:
    """All computations under way, by key."""

    by_key: dict[Key, Flight] = field(default_factory=dict)
    _numbers: int = 0

    def join(self, key: Key, event: TextEvent, segment: Segment, index: int) -> Flight | None:
        """Let a record wait for its key's computation; returns the flight if it is a new one."""
        flight = self.by_key.get(key)
        if flight is not None:
            flight.waiters.append((segment, index))
            return None
        self._numbers += 1
        flight = self.by_key[key] = Flight(self._numbers, key, event, [(segment, index)])
        return flight

    def land(self, flight: Flight, outcome: Answer | DataFailure) -> None:
        """Give the outcome to every waiter; each failure is its record's own dead letter."""
        self.by_key.pop(flight.key, None)
        resolve(flight.waiters, outcome)

    def cancel(self, flight: Flight) -> None:
        """Nobody waits any more."""
        self.by_key.pop(flight.key, None)


def resolve(waiters: Iterable[tuple[Segment, int]], outcome: Outcome) -> None:
    """Write an outcome where records wait for it."""
    failed = isinstance(outcome, DataFailure)
    for segment, index in waiters:
        segment.outcomes[index] = outcome
        segment.open -= 1
        if failed:
            segment.failures += 1
