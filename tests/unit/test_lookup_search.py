"""A search for results in a partition finds each that is there, whatever lies between them, and whatever was known of a
topic that had this name before."""

from __future__ import annotations

import json
from bisect import bisect_left

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.health.feedback.join import Absent, Result
from streamer.core.health.feedback.landmarks import Landmarks
from streamer.kafka.lookup import _At, _Search

_BATCH = 7


def _partition(steps: list[tuple[int, int]]) -> list[_At]:
    """Results whose events and offsets rise in such steps."""
    found, event, offset = [], -1, -1
    for more, apart in steps:
        event, offset = event + more, offset + apart
        source = {"topic": "in", "partition": 0, "offset": event}
        value = {"pipeline": "p", "model": {"revision": "r"}, "output": {}, "source": source}
        found.append(_At(offset, event, json.dumps(value).encode()))
    return found


_STEPS = st.lists(st.tuples(st.integers(1, 5) | st.just(900), st.integers(1, 3) | st.just(700)), max_size=60)


@settings(max_examples=300, deadline=None)
@given(_STEPS, _STEPS, st.lists(st.integers(0, 6_000), max_size=30), st.integers(0, 40))
def test_each_result_is_found(
    steps: list[tuple[int, int]], before: list[tuple[int, int]], more: list[int], learned: int
) -> None:
    results = _partition(steps)
    end = results[-1].offset + 2 if results else 0
    offsets = [at.offset for at in results]
    known = Landmarks()
    for at in _partition(before)[:learned]:
        known.learn(at.event, at.offset)

    def read(start: int, stop: int) -> list[_At]:
        first = bisect_left(offsets, start)
        found = results[first : first + _BATCH]
        return found if found and found[0].offset < stop else []

    there = {at.event for at in results}
    last = max(there, default=-1)
    events = sorted({*there, *more})
    search = _Search(read, known, 0, end)
    for event in events:
        found = search.find(event)
        if event in there:
            assert isinstance(found, Result)
            assert found.source.offset == event
        elif event < last:
            assert found == Absent(yet=False)
        else:
            assert found == Absent(yet=True)
