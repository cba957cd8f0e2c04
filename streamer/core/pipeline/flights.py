"""Single flight: a computation belongs to the set of records that wait for it, not to a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import msgspec

from streamer.core.record import Answer, Segment, TextEvent
from streamer.errors import DataFailure

Key = bytes | str | tuple[str, str | None, bytes] | int
Waiter = tuple[Segment, int]


class Flight(msgspec.Struct, eq=False, gc=False):
    """One input being looked up or computed. Most have one waiter, the record at `segment`, `index`; those that came
    later are in `more`. `kills` and `sigkills` count the workers that died of it alone.

    A struct without garbage collection: one is made a record, and none is part of a cycle.
    """

    number: int
    key: Key
    event: TextEvent
    segment: Segment
    index: int
    more: list[Waiter] | None = None
    kills: int = 0
    sigkills: int = 0

    @property
    def waiters(self) -> Iterator[Waiter]:
        """The records that wait for it."""
        yield self.segment, self.index
        yield from self.more or ()

    @property
    def wanted(self) -> bool:
        """Whether a record that is still ours waits for it."""
        return any(not segment.dropped for segment, _ in self.waiters)

    @property
    def records(self) -> int:
        """How many records wait for it."""
        return 1 + len(self.more) if self.more else 1


class Flights:
    """All computations under way, by key."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Flight] = {}
        self._numbers = 0

    def join(self, keys: list[Key], events: list[TextEvent], segment: Segment, indexes: list[int]) -> list[Flight]:
        """Let a segment's records wait for their keys' computations; returns the flights that are new."""
        assert len(keys) == len(events) == len(indexes)
        by_key = self.by_key
        under_way = len(by_key)
        first = self._numbers + 1
        self._numbers += len(keys)
        # One flight a record, made and looked up without a loop in Python, which took a third longer.
        flights = list(map(Flight, range(first, first + len(keys)), keys, events, repeat(segment), indexes))
        found = list(map(by_key.setdefault, keys, flights))
        if len(by_key) - under_way == len(flights):
            return flights
        fresh: list[Flight] = []
        for flight, own in zip(found, flights, strict=True):
            if flight is own:
                fresh.append(flight)
            elif flight.more is None:
                flight.more = [(segment, own.index)]
            else:
                flight.more.append((segment, own.index))
        return fresh

    def land(self, flights: list[Flight], outcomes: list[Answer | DataFailure]) -> int:
        """Give each flight's outcome to all its waiters, each failure as its record's own; returns how many records
        ended."""
        pop = self.by_key.pop
        ended = len(flights)
        for flight, outcome in zip(flights, outcomes, strict=True):
            pop(flight.key, None)
            if flight.more is None and type(outcome) is Answer:
                segment = flight.segment
                segment.outcomes[flight.index] = outcome
                segment.open -= 1
                continue
            ended += flight.records - 1
            for segment, index in flight.waiters:
                segment.outcomes[index] = outcome
                segment.open -= 1
                segment.failures += type(outcome) is DataFailure
        return ended

    def cancel(self, flights: list[Flight]) -> int:
        """Nobody waits for these any more; returns how many records are let go."""
        for flight in flights:
            self.by_key.pop(flight.key, None)
        return sum(flight.records for flight in flights)
