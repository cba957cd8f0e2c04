"""Where in an output partition the results of some events lie: enough to guess well where those of others do."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

MOST: Final = 4_096
"""Landmarks of one partition; when there are more, every other one goes."""


class Stretch(NamedTuple):
    """Offsets from `low` on, up to `high` (not included), among which an event's result lies if there is one; the
    events at both ends, -1 where none is known there."""

    low: int
    low_event: int
    high: int
    high_event: int


class Landmarks:
    """Results of one input partition in one output partition: both offsets rise together. What is learned again and
    contradicts that replaces what was known: then the topic is another one, or was written in another order."""

    def __init__(self) -> None:
        self._events: list[int] = []
        self._offsets: list[int] = []

    def __len__(self) -> int:
        return len(self._events)

    def learn(self, event: int, offset: int) -> None:
        """The result of an event lies there."""
        events, offsets = self._events, self._offsets
        place = bisect_right(events, event)
        if place and events[place - 1] == event:
            if offsets[place - 1] == offset:
                return
            place -= 1
            del events[place], offsets[place]
        if (place and offsets[place - 1] >= offset) or (place < len(offsets) and offsets[place] <= offset):
            self.forget()
            place = 0
        events.insert(place, event)
        offsets.insert(place, offset)
        if len(events) > MOST:
            del events[1:-1:2], offsets[1:-1:2]

    def forget(self) -> None:
        """Forget everything."""
        self._events.clear()
        self._offsets.clear()

    def stretch(self, event: int, low: int, high: int) -> Stretch:
        """Where to look for an event in a partition that has the offsets from `low` up to `high`."""
        if self._offsets and self._offsets[-1] >= high:  # it was longer once: another topic of this name
            self.forget()
        place = bisect_right(self._events, event)
        low_event = high_event = -1
        if place < len(self._events):
            high, high_event = self._offsets[place], self._events[place]
        if place and self._offsets[place - 1] >= low:
            low, low_event = self._offsets[place - 1], self._events[place - 1]
        return Stretch(low, low_event, max(high, low), high_event)
