"""Dead letters of seven tools are read as one value, and nothing of the record is lost with their headers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.deadletters.families import Family, Reason, read, without_reason
from streamer.core.events.record_headers import headers_of
from streamer.core.record import Headers
from streamer.errors import Code
from tests.records import FakeRecord
from tests.unit.deadletters_kit import (
    ARROYO,
    CONNECT,
    REDPANDA,
    SHARE,
    SPRING,
    STREAMS,
    Unreadable,
    foreign,
    letter,
    ours,
)

ORIGIN = {"topic": "orders", "partition": 3, "offset": 117}
FOREIGN = {
    Family.CONNECT: (
        CONNECT,
        Reason(
            Family.CONNECT,
            "kafka-connect",
            stage="VALUE_CONVERTER",
            exception="org.apache.kafka.connect.errors.DataException",
            message="Converting byte[] to Kafka Connect data failed",
            pipeline="sink-jdbc",
            **ORIGIN,  # type: ignore[arg-type]
        ),
    ),
    Family.STREAMS: (
        STREAMS,
        Reason(
            Family.STREAMS,
            "kafka-streams",
            exception="org.apache.kafka.common.errors.SerializationException",
            message="Size of data is not 4",
            **ORIGIN,  # type: ignore[arg-type]
        ),
    ),
    Family.SHARE: (
        SHARE,
        Reason(
            Family.SHARE,
            "share-group",
            message="Offset delivery count exceeded the threshold.",
            attempts=5,
            pipeline="share-1",
            **ORIGIN,  # type: ignore[arg-type]
        ),
    ),
    Family.SPRING: (
        SPRING,
        Reason(
            Family.SPRING,
            "spring",
            exception="java.lang.IllegalStateException",
            message="Listener failed; no such account 17",
            attempts=4,
            pipeline="billing",
            **ORIGIN,  # type: ignore[arg-type]
        ),
    ),
    Family.ARROYO: (ARROYO, Reason(Family.ARROYO, "arroyo", partition=3, offset=117)),
    Family.REDPANDA: (
        REDPANDA,
        Reason(Family.REDPANDA, "redpanda", message="failed to send message to http_client"),
    ),
}


@pytest.mark.parametrize("family", FOREIGN)
def test_others_dead_letters_are_read(family: Family) -> None:
    """Names and numbers, text or big-endian, as each tool writes them."""
    headers, reason = FOREIGN[family]
    assert letter(foreign(headers)).reason == reason


@pytest.mark.parametrize("family", FOREIGN)
def test_what_a_tool_added_is_taken_off(family: Family) -> None:
    """The record's own headers stay, byte for byte, and no other."""
    headers, _ = FOREIGN[family]
    (found,) = headers_of([foreign(headers)])
    assert found is not None
    assert without_reason(found, family) == [("mine", b"\xff1")]


def test_ours_are_read() -> None:
    """Everything that the envelope says comes back."""
    reason = letter(ours(17, pipeline="sentiment", origin="reviews", partition=2)).reason
    assert reason == Reason(
        Family.STREAMER,
        "infer.exception",
        failure_class="data",
        stage="infer",
        exception="ValueError",
        message="It raised.",
        attempts=1,
        pipeline="sentiment",
        model="sentiment@abc123",
        topic="reviews",
        partition=2,
        offset=117,
    )


def test_omitted_parts_are_named() -> None:
    """A dead letter that did not fit says what is missing."""
    assert letter(ours(value=b"x" * 5_000, limit_bytes=2_000)).reason.omitted == ("value",)


def test_a_record_that_carries_other_families_is_ours() -> None:
    """Headers of others that the record came with are its own: they are kept."""
    one = letter(ours(headers=[*SPRING, *STREAMS]))
    assert one.reason.family is Family.STREAMER
    assert one.headers is not None
    assert without_reason(one.headers, Family.STREAMER) == [*SPRING, *STREAMS]


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [(b"\x02", 2), (struct.pack(">i", 300), 300), (struct.pack(">i", -1), 1), (b"", 1), (b"\x01" * 9, 1)],
)
def test_springs_numbers_have_any_width(attempts: bytes, expected: int) -> None:
    """Older versions wrote one byte; what is no such number is absent."""
    headers = [*SPRING, ("retry_topic-attempts", attempts)]
    assert letter(foreign(headers)).reason.attempts == expected


def test_other_records_have_no_reason() -> None:
    """A record without such headers is unknown, and so is one whose headers can't be read, asked once."""
    assert letter(foreign([])).reason == Reason(Family.UNKNOWN, "unknown")
    unreadable = letter(Unreadable(b"v"))
    assert unreadable.headers is None
    assert unreadable.reason.family is Family.UNKNOWN


def test_headers_of_many_are_told_apart() -> None:
    """Readable ones, none, and unreadable ones, wherever these stand."""
    records = [
        Unreadable(b"v"),
        ours(),
        FakeRecord(b"v"),
        Unreadable(b"v"),
        Unreadable(b"v"),
        ours(1),
        Unreadable(b"v"),
    ]
    found = headers_of(records)
    assert [None if each is None else bool(each) for each in found] == [None, True, False, None, None, True, None]
    assert headers_of([]) == []


NAMES = sorted({name for headers, _ in FOREIGN.values() for name, _ in headers} | {"streamer.error.code", "mine"})
headers_strategy = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.binary(max_size=24)), max_size=12)


@given(headers_strategy)
def test_reading_never_raises(headers: Headers) -> None:
    """Whatever the headers hold."""
    reason = read(dict(headers))
    assert reason.attempts >= 0
    own = without_reason(headers, reason.family)
    assert [header for header in own if header[0] == "mine"] == [header for header in headers if header[0] == "mine"]


def test_codes_of_ours_are_kept_as_they_are() -> None:
    """Each code comes back, one that a newer version wrote too."""
    for code in Code:
        assert letter(ours(code=code)).reason.code == code.value
    assert read({"streamer.error.code": b"infer.new"}).code == "infer.new"
