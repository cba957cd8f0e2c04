"""A filter picks what it says, quickly or not, and leaves out what is closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.deadletters.causes import fingerprint
from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import STATE_TOPIC, Job, State, job_record, state_record
from streamer.core.record import Record
from streamer.errors import Code
from streamer.ops.dlq.closed import Closed
from tests.records import FakeRecord
from tests.unit.deadletters_kit import ARROYO, CONNECT, SHARE, SPRING, TIME_MS, Unreadable, foreign, letter, ours


def picked(selection: Selection, *records: Record, closed: Closed | None = None) -> list[Record]:
    return [each.record for each in Selector(selection, closed).pick(records)]


def test_nothing_asked_picks_all() -> None:
    """Also records that are no dead letters, and those whose headers can't be read."""
    records = [ours(), foreign(SPRING), foreign([]), Unreadable(b"v")]
    assert picked(Selection(), *records) == records


@pytest.mark.parametrize(
    ("selection", "matches"),
    [
        (Selection(codes=["infer.exception"]), [True, False, False, False]),
        (Selection(codes=["spring", "infer.nan"]), [False, True, True, False]),
        (Selection(classes=["data"]), [True, True, False, False]),
        (Selection(pipelines=["p"]), [True, True, False, False]),
        (Selection(pipelines=["billing"]), [False, False, True, False]),
        (Selection(origin_topics=["orders"]), [False, False, True, True]),
        (Selection(origin_partitions=[3]), [False, False, True, True]),
        (Selection(origin_offsets=(101, 117)), [False, True, True, True]),
        (Selection(origin_offsets=(101, None), codes=["infer.nan"]), [False, True, False, False]),
        (Selection(attempts=(4, None)), [False, False, True, False]),
        (Selection(attempts=(1, 1)), [True, True, False, True]),
        (Selection(since_ms=TIME_MS + 1), [False, True, False, False]),
        (Selection(until_ms=TIME_MS), [True, False, True, True]),
        (Selection(keys=[b"k2"]), [False, True, False, False]),
        (Selection(headers=[("mine", b"\xff1")]), [False, False, True, True]),
        (Selection(causes=[fingerprint(letter(foreign(SPRING)).reason)]), [False, False, True, False]),
    ],
)
def test_each_field_narrows(selection: Selection, matches: list[bool]) -> None:
    """For our own dead letters and for those of others."""
    records = [
        ours(0),
        ours(1, code=Code.INFER_NAN, key=b"k2", timestamp_ms=TIME_MS + 1),
        foreign(SPRING),
        foreign(CONNECT),
    ]
    found = picked(selection, *records)
    assert [record in found for record in records] == matches


def wants(selection: Selection, one: DeadLetter) -> bool:
    """The filter without any haste."""
    reason = one.reason
    tests: list[tuple[Any, bool]] = [
        (selection.codes, reason.code in selection.codes),
        (selection.classes, reason.failure_class in selection.classes),
        (selection.pipelines, reason.pipeline in selection.pipelines),
        (selection.origin_topics, reason.topic in selection.origin_topics),
        (selection.origin_partitions, reason.partition in selection.origin_partitions),
        (selection.origin_offsets, within(reason.offset, selection.origin_offsets)),
        (selection.attempts, within(reason.attempts, selection.attempts)),
        (selection.keys, one.record.key() in selection.keys),
    ]
    return all(holds for asked, holds in tests if asked)


def within(number: int | None, bounds: tuple[int, int | None] | None) -> bool:
    if bounds is None or number is None:
        return False
    return bounds[0] <= number and (bounds[1] is None or number <= bounds[1])


SOME = ["p", "q", "billing", "in", "orders", "infer.exception", "infer.nan", "spring", "data"]
some = st.lists(st.sampled_from(SOME), max_size=3)
ranges = st.none() | st.tuples(st.integers(0, 120), st.none() | st.integers(0, 120))
selections = st.builds(
    Selection,
    codes=some,
    classes=st.sampled_from([[], [], ["data"], ["code"]]),
    pipelines=some,
    origin_topics=some,
    origin_partitions=st.lists(st.integers(0, 3), max_size=2),
    origin_offsets=ranges,
    attempts=st.none() | st.tuples(st.integers(0, 4), st.none() | st.integers(0, 4)),
    keys=st.lists(st.sampled_from([b"k", b"k2"]), max_size=1),
)
records = st.builds(
    ours,
    st.integers(0, 20),
    code=st.sampled_from([Code.INFER_EXCEPTION, Code.INFER_NAN]),
    pipeline=st.sampled_from(["p", "q"]),
    partition=st.integers(0, 3),
    origin=st.sampled_from(["in", "orders"]),
    headers=st.sampled_from([None, [("streamer.replay.attempts", b"3")]]),
) | st.sampled_from([foreign(each) for each in (SPRING, CONNECT, SHARE, ARROYO, [])])


@given(selections, st.lists(records, max_size=6))
def test_haste_changes_nothing(selection: Selection, found: list[FakeRecord]) -> None:
    """What is compared as bytes picks the same as what is parsed."""
    assert picked(selection, *found) == [record for record in found if wants(selection, letter(record))]


def test_one_is_found_by_its_event_and_by_its_trace() -> None:
    """The event's id is that of its body, of its header, or its place; each filter narrows the others."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    traced = ours(0, headers=[("traceparent", f"00-{trace}-b7ad6b7169203331-01".encode())])
    headed, placed = ours(1, headers=[("ce_id", b"b")], value=b"{}"), ours(2, value=b'{"text": "hi"}')
    found = [traced, headed, placed, foreign(SPRING)]
    assert picked(Selection(ids=("a",)), *found, Unreadable(b"v")) == [traced]
    assert picked(Selection(ids=("b", "in/0/102")), *found) == [headed, placed]
    assert picked(Selection(traces=(trace,)), *found) == [traced]
    assert picked(Selection(traces=(trace,), ids=("b",)), *found) == []


@pytest.fixture
def closed() -> Iterator[Closed]:
    with Closed() as closed:
        yield closed


def close(closed: Closed, *records: Record, shift_ms: int = 0) -> None:
    for record in records:
        one = letter(record)
        state = State("replayed", "j", "me@here", "2026-01-01T00:00:00Z", one.timestamp_ms + shift_ms)
        key, value = state_record(one.place, state)
        closed.add([FakeRecord(value, key, topic=STATE_TOPIC)])


def test_closed_ones_are_left_out(closed: Closed) -> None:
    """Unless asked for; one at the same place with another time is not the same dead letter."""
    first, second = ours(0), ours(1)
    close(closed, first)
    assert picked(Selection(), first, second, closed=closed) == [second]
    assert [each.record for each in Selector(Selection()).pick([first])] == [first]
    assert closed.count("j") == 1
    state = closed.find(letter(first))
    assert state is not None
    assert (state.state, state.job, state.by) == ("replayed", "j", "me@here")
    close(closed, first, shift_ms=1)
    assert picked(Selection(), first, closed=closed) == [first]


def test_the_state_topic_may_hold_anything(closed: Closed) -> None:
    """Records that are none of ours are passed over; a job and a topic called job are told apart."""
    wanted = {"topics": ["in.dlq"], "filter": {"codes": ["a"]}}
    selection = Selection(keys=(b"\xff",), headers=(("a", b"b"),), attempts=(1, None))
    job = Job("j", "replay", "me", "now", wanted, selection, {"in.dlq": {0: 7}})
    key, value = job_record(job)
    place_key, place_value = state_record(Place("job", 3, 4), State("discarded", "j", "me", "now", 5, reason="no"))
    odd: list[tuple[bytes | None, bytes | None]] = [
        (None, b"{}"),
        (b"in.dlq/0/1", None),
        (b"\xff", b"{}"),
        (b"a/b/c", b"{}"),
        (b"in.dlq/0/1", b"nonsense"),
        (b"in.dlq/0/" + b"9" * 30, place_value),
        (key, value),
        (place_key, place_value),
    ]
    closed.add(FakeRecord(value, key) for key, value in odd)
    assert job_record(closed.jobs["j"]) == (key, value)
    assert closed.jobs["j"].selection.keys == [b"\xff"]
    at_job = letter(FakeRecord(b"v", topic="job", partition=3, offset=4, timestamp_ms=5))
    assert closed.holds(at_job)
