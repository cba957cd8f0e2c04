"""Single flight: a computation belongs to the set of records that wait for it, not to a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streamer.core.record import Answer, Segment, TextEvent
from streamer.errors import DataFailure

Key = bytes | str | tuple[str, str | None, bytes] | int
Waiter = tuple[Segment, int]


class Flight(msgspec.Struct, eq=False, gc=False):
    """One input being looked up or computed. Most have one waiter, the record at `segment`, `index`; those that came
    later are in `more`. `kills`, `sigkills` and `spoils` count the workers that it ended alone: by death, by a SIGKILL
    that was not ours, and by the worker's own word.

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
    spoils: int = 0

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


LARGE_BYTES = 1024
"""An answer's size from which on it counts; what smaller ones take is in the source's measure of a record."""
COPIES = 2  # the answer, and the client's copy while it is written


class Flights:
    """All computations under way, by key. `answer_bytes` is what all answers so far took of the byte budget."""

    def __init__(self) -> None:
        self.answer_bytes = 0
        self.by_key: dict[Key, Flight] = {}
        self._numbers = 0

    def join(self, keys: list[Key], events: list[TextEvent], segment: Segment, indexes: list[int]) -> list[Flight]:
        """Let a segment's records wait for their keys' computations; returns the flights that are new."""
        by_key = self.by_key
        find = by_key.get
        number = self._numbers
        fresh: list[Flight] = []
        append = fresh.append
        for key, event, index in zip(keys, events, indexes, strict=True):
            flight = find(key)
            if flight is None:
                number += 1
                flight = by_key[key] = Flight(number, key, event, segment, index)
                append(flight)
            elif flight.more is None:
                flight.more = [(segment, index)]
            else:
                flight.more.append((segment, index))
        self._numbers = number
        return fresh

    def land(self, flights: list[Flight], outcomes: list[Answer | DataFailure]) -> int:
        """Give each flight's outcome to all its waiters, each failure as its record's own; returns how many records
        ended."""
        by_key = self.by_key
        ended = len(flights)
        for flight, outcome in zip(flights, outcomes, strict=True):
            by_key.pop(flight.key, None)
            segment = flight.segment
            segment.outcomes[flight.index] = outcome
            segment.open -= 1
            if type(outcome) is Answer:
                if len(outcome.output) > LARGE_BYTES:
                    self._weigh(outcome, flight)
                if flight.more is None:
                    continue
                if not outcome.repeated:  # for those that came later
                    outcome = Answer(
                        outcome.output, outcome.truncated, outcome.cached, outcome.tokens, True, outcome.measures
                    )
            else:
                segment.failures += 1
            more = flight.more or ()
            ended += len(more)
            for segment, index in more:
                segment.outcomes[index] = outcome
                segment.open -= 1
                segment.failures += type(outcome) is DataFailure
        return ended

    def _weigh(self, answer: Answer, flight: Flight) -> None:
        """One answer is there once, however many wait for it; each writes it."""
        size_bytes = len(answer.output)
        for segment, _ in flight.waiters:
            if not segment.dropped:
                segment.size_bytes += COPIES * size_bytes
                self.answer_bytes += COPIES * size_bytes

    def cancel(self, flights: list[Flight]) -> int:
        """Nobody waits for these any more; returns how many records are let go."""
        for flight in flights:
            self.by_key.pop(flight.key, None)
        return sum(flight.records for flight in flights)
