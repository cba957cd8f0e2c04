"""What a replay does with one dead letter: the headers byte for byte, where it goes, and what it refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.deadletters.destinations import Destinations, Refusal
from streamer.core.deadletters.envelope import wrap
from streamer.core.deadletters.replay import Mark, Move, Replay, Signature
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import STATE_TOPIC, State
from streamer.core.events.codec import FOREIGN_REPLAY, Codec
from streamer.core.events.shape import Path, Shape
from streamer.core.record import Headers, Record, Segment
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord
from tests.unit.deadletters_kit import (
    ARROYO,
    CARD,
    CONNECT,
    REDPANDA,
    SHARE,
    SPRING,
    STREAMS,
    TIME_MS,
    FakeTarget,
    Unreadable,
    foreign,
    letter,
    ours,
)

SIGNATURE = Signature("job-1", "me@here", "2026-11-24T10:00:00Z")
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def policy(**fields: Any) -> Replay:
    """Sends to any topic that a dead letter of the kit came from, and to `to`."""
    readers = {topic: frozenset({"p", "sentiment"}) for topic in ("in", "orders", "reviews")}
    where = Destinations(readers, fields.pop("to", ""), fields.pop("addressee", ""))
    return Replay(SIGNATURE, **{"target": lambda _: FakeTarget(), "destinations": where, **fields})


def moved(record: Record, **fields: Any) -> Move:
    decision = policy(**fields)(letter(record))
    assert isinstance(decision, Move), decision
    return decision


def refused(record: Record, **fields: Any) -> str:
    decision = policy(**fields)(letter(record))
    assert isinstance(decision, Refusal), decision
    return decision.why


def test_the_replayed_record_and_its_state() -> None:
    """Value, key and own headers as they were, ours instead of the reason, and the state beside it."""
    own: Headers = [("traceparent", TRACE), ("mine", b"\xff\x00"), ("null", None), ("mine", b"twice")]
    move = moved(ours(17, headers=own, partition=2, pipeline="sentiment", origin="reviews"))
    assert (move.topic, move.partition) == ("reviews", 2)
    replayed, state = move.outputs
    assert replayed == (
        "reviews",
        2,
        b"k",
        b'{"id": "a", "text": "hi"}',
        [
            *own,
            ("streamer.replay.id", b"a"),
            ("streamer.replay.attempts", b"1"),
            ("streamer.replay.job", b"job-1"),
            ("streamer.replay.pipeline", b"sentiment"),
            ("streamer.origin.topic", b"reviews"),
            ("streamer.origin.partition", b"2"),
            ("streamer.origin.offset", b"117"),
        ],
    )
    topic, partition, key, value, headers = state
    assert (topic, partition, key, headers) == (STATE_TOPIC, -1, b"in.dlq/2/17", [])
    assert value is not None
    assert msgspec.json.decode(value, type=State) == State(
        "replayed", "job-1", "me@here", "2026-11-24T10:00:00Z", TIME_MS
    )


def fails_again(output: tuple[str, int, bytes | None, bytes | None, Headers], offset: int) -> FakeRecord:
    """The dead letter of a replayed record that fails once more."""
    topic, partition, key, value, headers = output
    record = FakeRecord(value, key, headers, topic, partition, offset)
    failure = DataFailure(Code.INFER_NAN, "NaN.")
    _, partition, key, value, headers = wrap(
        record, failure, pipeline="p", card=CARD, dead_letter_topic="in.dlq", limit_bytes=10**6, time_ms=TIME_MS
    )
    return FakeRecord(value, key, headers, "in.dlq", partition, offset, TIME_MS)


@pytest.mark.case(38)
@pytest.mark.promise(9)
def test_attempts_count_up_to_the_limit_and_headers_never_pile_up() -> None:
    """Each failure counts; id and origin stay those of the first; past --max-attempts it is refused."""
    record = ours(17, value=b'{"text": "no id"}', headers=[("mine", b"1")])
    lengths = set()
    for attempts in range(1, 5):
        output = moved(record).outputs[0]
        headers = dict(output[4])
        assert headers["streamer.replay.attempts"] == b"%d" % attempts
        assert headers["streamer.replay.id"] == b"in/0/117"
        assert headers["streamer.origin.offset"] == b"117"
        lengths.add(len(output[4]))
        record = fails_again(output, 1_000 + attempts)
    assert lengths == {8}
    assert "failed 5 times, --max-attempts is 5" in refused(record)
    assert dict(moved(record, max_attempts=6).outputs[0][4])["streamer.replay.attempts"] == b"5"
    assert "failed 1 times" in refused(ours(), max_attempts=1)


def test_only_the_pipeline_that_failed_reads_it_again() -> None:
    """Others skip a record that is replayed to its own topic; in another topic anyone may read it."""

    def outcome(pipeline: str, **fields: Any) -> Any:
        _, partition, key, value, headers = moved(ours(), **fields).outputs[0]
        segment = Segment("in", partition, 0, [FakeRecord(value, key, headers)])
        Codec(pipeline).decode(segment)
        return segment.outcomes[0]

    assert outcome("p") is None
    assert outcome("q") is FOREIGN_REPLAY
    assert outcome("q", to="elsewhere") is None


IDS: list[tuple[Headers, bytes, bytes]] = [
    ([], b'{"id": "mine", "text": "x"}', b"mine"),
    ([], b'{"id": 17, "text": "x"}', b"17"),
    ([], b'{"text": "x"}', b"in/0/100"),
    ([], b'{"id": "kept", "text": ""}', b"kept"),
    ([], b'{"id": "kept", "txt": "x"}', b"kept"),
    ([], b'{"id": "", "text": "x"}', b"in/0/100"),
    ([], b'{"id": {"no": 1}, "text": "x"}', b"in/0/100"),
    ([], b"nonsense", b"in/0/100"),
    ([], b"", b"in/0/100"),
    ([], b'{"id": "%s"}' % (b"x" * 257), b"in/0/100"),
    ([("ce_id", b"event-1")], b'{"id": "mine", "text": "x"}', b"event-1"),
    ([("ce_id", b"\xff")], b'{"id": "mine", "text": ""}', b"mine"),
    ([("streamer.replay.id", b"first")], b'{"id": "mine", "text": "x"}', b"first"),
    ([("content-type", b"text/plain")], b'{"id": "a text"}', b"in/0/100"),
    (
        [("content-type", b"application/cloudevents+json")],
        b'{"specversion": "1.0", "id": "outer", "data": {"id": "inner", "text": "x"}}',
        b"outer",
    ),
]


@pytest.mark.parametrize(("headers", "value", "expected"), IDS)
def test_the_id_is_the_one_that_it_had(headers: Headers, value: bytes, expected: bytes) -> None:
    """Of an earlier replay, of the CloudEvent, of the body even where that is no event, else the origin's place."""
    output = moved(ours(value=value, headers=headers)).outputs[0]
    assert dict(output[4])["streamer.replay.id"] == expected


SHAPE = Shape(Path.of("text"), id=Path.of("key.id"))


@pytest.mark.parametrize(
    ("headers", "value", "expected"),
    [
        ([], b'{"id": "not ours", "text": "x", "key": {"id": 5}}', b"5"),
        ([], b'{"id": "not ours", "text": 3, "key": {"id": 5}}', b"5"),
        ([], b'{"id": "not ours", "text": "x"}', b"in/0/100"),
        ([], b'{"id": "not ours", "text": 3}', b"in/0/100"),
        ([], b"nonsense", b"in/0/100"),
        ([("ce_id", b"event-1")], b'{"text": "x", "key": {"id": 5}}', b"event-1"),
    ],
)
def test_the_id_is_where_the_pipeline_reads_it(headers: Headers, value: bytes, expected: bytes) -> None:
    """Of events that have a shape of their own."""
    (found,) = Selector(Selection(), readings={"p": SHAPE}).pick([ours(value=value, headers=headers)])
    decision = policy()(found)
    assert isinstance(decision, Move)
    assert dict(decision.outputs[0][4])["streamer.replay.id"] == expected


ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.integers(-(2**63), 2**64 - 1)


@given(ids, st.booleans())
def test_the_result_of_a_replay_has_the_same_id(given_id: str | int, text: bool) -> None:
    """Whatever id an event has: the codec reads the same one from the replayed record."""
    from streamer.core.events.codec import event_id

    value = msgspec.json.encode({"id": given_id, "text": "x" if text else ""})
    output = moved(ours(value=value)).outputs[0]
    record = FakeRecord(output[3], output[2], output[4], "in", 0, 5_000)
    segment = Segment("in", 0, 0, [record])
    Codec("p").decode(segment)
    assert event_id(record, segment.events[0]) == str(given_id)


@pytest.mark.parametrize("headers", [CONNECT, STREAMS, SHARE, SPRING])
def test_others_dead_letters_go_home(headers: Headers) -> None:
    """To the topic and partition that their headers name, without these headers and for every pipeline."""
    move = moved(foreign(headers))
    assert (move.topic, move.partition) == ("orders", 3)
    assert move.outputs[0][4] == [
        ("mine", b"\xff1"),
        ("streamer.replay.id", b"orders/3/117"),
        ("streamer.replay.attempts", b"1"),
        ("streamer.replay.job", b"job-1"),
        ("streamer.origin.topic", b"orders"),
        ("streamer.origin.partition", b"3"),
        ("streamer.origin.offset", b"117"),
    ]


@pytest.mark.parametrize("headers", [ARROYO, REDPANDA, []])
def test_where_no_topic_is_named_one_must_be_given(headers: Headers) -> None:
    """Arroyo and Redpanda Connect do not say where a record came from."""
    assert "give --to TOPIC" in refused(foreign(headers))
    move = moved(foreign(headers), to="orders")
    assert (move.topic, move.partition) == ("orders", 3 if headers is ARROYO else 1)
    assert dict(move.outputs[0][4])["streamer.replay.id"] == b"orders-dlt/1/5"


def test_a_loop_through_another_tool_ends_too() -> None:
    """Spring keeps the headers of our last replay: its dead letters count from there, not from their own retries."""
    again = foreign([*SPRING, ("streamer.replay.attempts", b"4")])
    assert "failed 5 times" in refused(again)
    assert dict(moved(foreign(SPRING)).outputs[0][4])["streamer.replay.attempts"] == b"1"


def test_what_can_not_go_back_as_it_was_is_refused() -> None:
    """Parts that are not there, headers that can't be read, partitions that are gone, sizes that do not fit."""
    assert "value did not fit" in refused(ours(value=b"x" * 5_000, limit_bytes=2_000))
    assert "not UTF-8" in refused(Unreadable(b"v"), to="in")
    assert "does not copy records" in refused(foreign(SHARE, value=None))
    assert "no partition 2 any more" in refused(ours(partition=2), target=lambda _: FakeTarget(2))
    assert "over max.message.bytes of in (300)" in refused(ours(), target=lambda _: FakeTarget(4, 300))
    assert moved(ours(), target=lambda _: FakeTarget(4, None))


@given(st.integers(0, 9), st.integers(1, 10))
def test_in_another_topic_each_partition_stays_together(partition: int, partitions: int) -> None:
    """The same number, or that number modulo what there is."""
    move = moved(ours(partition=partition), to="elsewhere", target=lambda _: FakeTarget(partitions))
    assert move.partition == partition % partitions


def test_a_changed_value_is_said_in_the_state() -> None:
    """`edit` replays another value under the same id."""
    move = moved(ours(), change=lambda _: b'{"id": "a", "text": "fixed"}')
    replayed, state = move.outputs
    assert replayed[3] == b'{"id": "a", "text": "fixed"}'
    assert state[3] is not None
    assert msgspec.json.decode(state[3], type=State).edited
    assert refused(ours(), change=lambda _: Refusal("no")) == "no"


def test_a_discard_writes_the_state_alone() -> None:
    """With its reason."""
    move = Mark(SIGNATURE, "discarded", "spam")(letter(ours(3)))
    (output,) = move.outputs
    assert (move.topic, output[0], output[2]) == ("", STATE_TOPIC, b"in.dlq/0/3")
    assert output[3] is not None
    state = msgspec.json.decode(output[3], type=State)
    assert (state.state, state.reason, state.timestamp_ms) == ("discarded", "spam", TIME_MS)
