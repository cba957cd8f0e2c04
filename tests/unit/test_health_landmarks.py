"""What is known of a partition's order narrows a search, and never to where the result is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.health.feedback.landmarks import MOST, Landmarks


@given(st.sets(st.integers(0, 500), min_size=1), st.data())
def test_a_result_lies_in_its_stretch(events: set[int], data: st.DataObject) -> None:
    """Whichever were learned, in whatever order."""
    offsets = {event: 3 * place + 10 for place, event in enumerate(sorted(events))}
    end = 3 * len(events) + 10
    known = Landmarks()
    for event in data.draw(st.lists(st.sampled_from(sorted(events)))):
        known.learn(event, offsets[event])
        for each, offset in offsets.items():
            low, low_event, high, high_event = known.stretch(each, 0, end)
            assert low <= offset < high
            assert low_event <= each
            assert high_event == -1 or high_event > each


def test_another_topic_of_the_name_is_known_anew() -> None:
    """It is shorter than it was, or its results lie elsewhere."""
    known = Landmarks()
    known.learn(10, 100)
    known.learn(20, 200)
    assert known.stretch(15, 0, 150) == (0, -1, 150, -1)
    known.learn(10, 100)
    known.learn(20, 50)
    assert known.stretch(20, 0, 1_000) == (50, 20, 1_000, -1)
    assert known.stretch(10, 0, 1_000).low == 0
    known.learn(20, 60)
    assert known.stretch(20, 0, 1_000).low == 60, "of two results of an event the one that was read last"


def test_deleted_records_are_not_searched() -> None:
    known = Landmarks()
    known.learn(10, 100)
    assert known.stretch(15, 500, 900) == (500, -1, 900, -1)


def test_landmarks_are_bounded() -> None:
    known = Landmarks()
    for event in range(3 * MOST):
        known.learn(event, 2 * event)
    assert len(known) <= MOST
    assert known.stretch(3 * MOST, 0, 10**9).low_event == 3 * MOST - 1
