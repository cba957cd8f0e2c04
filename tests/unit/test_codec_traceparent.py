"""Trace contexts: strict reading, writing, and which records get a span of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.record import MicroBatch, Segment, TraceParent
from streamer.core.traceparent import mark_spans, parse, record_span_id, render
from tests.records import FakeRecord

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-" + TRACE + b"-" + SPAN + b"-01"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (GOOD, True),
        (GOOD[:-2] + b"00", False),
        (GOOD[:-2] + b"03", True),
        (GOOD[:-2] + b"02", False),
        (b"01" + GOOD[2:], True),
        (b"cc" + GOOD[2:] + b"-later", True),
    ],
)
def test_valid_contexts(value: bytes, sampled: bool) -> None:
    """Version 00 and what a later version may look like are read, with the sampled bit."""
    assert parse(value) == TraceParent(int(TRACE, 16), int(SPAN, 16), sampled)


@pytest.mark.case(26)
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-x",
        GOOD + b"\n",
        b" " + GOOD,
        b"ff" + GOOD[2:],
        b"01" + GOOD[2:] + b"x",
        b"01" + GOOD[2:] + b"-" + b"x" * 1_000,
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        GOOD.replace(b"-", b"_"),
        GOOD.replace(b"0a", b"0x", 1),
        b"\xff\xfe" + GOOD[2:],
        "００".encode() + GOOD[2:],
    ],
)
def test_invalid_contexts(value: bytes) -> None:
    """Whatever the W3C refuses is None, and nothing raises."""
    assert parse(value) is None


@given(st.binary(max_size=80))
def test_no_bytes_raise(value: bytes) -> None:
    """No header makes the parser raise."""
    parse(value)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_round_trip(trace_id: int, span_id: int, sampled: bool) -> None:
    """What is written is read as the same."""
    assert parse(render(trace_id, span_id, sampled)) == TraceParent(trace_id, span_id, sampled)


def test_record_span_ids_differ() -> None:
    """The spans of one micro-batch have ids of their own, 64 bits, never 0, the same each time."""
    ids = [record_span_id(2**64 - 1, position) for position in range(10_000)]
    assert len(set(ids)) == 10_000
    assert all(0 < span_id < 2**64 for span_id in ids)
    assert ids[:3] == [record_span_id(2**64 - 1, position) for position in range(3)]


def test_the_first_sampled_records_get_spans() -> None:
    """Sampled records get spans in order, over segments, up to the limit; the rest is counted."""
    sampled, unsampled = TraceParent(1, 2, True), TraceParent(1, 2, False)
    first = Segment("in", 0, 1, [FakeRecord(b"")] * 3, traces=[None, sampled, unsampled])
    none = Segment("in", 1, 1, [FakeRecord(b"")])
    second = Segment("in", 2, 1, [FakeRecord(b"")] * 2, traces=[sampled, sampled])
    third = Segment("in", 3, 1, [FakeRecord(b"")], traces=[sampled])
    batch = MicroBatch(1, [first, none, second, third], 5, 6, 0)
    assert mark_spans(batch, 2) == (2, 2)
    assert first.spans == [0, record_span_id(6, 0), 0]
    assert none.spans is None
    assert second.spans == [record_span_id(6, 1), 0]
    assert third.spans is None
