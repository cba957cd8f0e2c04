"""The dead letter's envelope: nothing of the record changes, and the reason fits."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.deadletters.envelope import DeadLetterInfo, original_headers, unwrap, wrap
from streamer.core.output import Output, size_bytes
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import BareRecord, Headers, Record
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord

CARD = ModelCard("sentiment", "abc123", "text-classification", "float32", "torch")
FAILURE = DataFailure(Code.INFER_EXCEPTION, "It raised.", "ValueError")

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=40)), max_size=8)
records = st.builds(
    FakeRecord,
    value=st.none() | st.binary(max_size=300),
    key=st.none() | st.binary(max_size=40),
    headers=st.none() | headers,
    topic=st.just("in"),
    partition=st.integers(0, 100),
    offset=st.integers(0, 2**63 - 1),
)
failures = st.builds(DataFailure, code=st.sampled_from(Code), message=st.text(), exception=st.text(max_size=400))


def dead_letter(
    record: Record, failure: DataFailure = FAILURE, limit_bytes: int = 1_000_000, card: ModelCard | None = CARD
) -> Output:
    return wrap(
        record,
        failure,
        pipeline="mine",
        card=card,
        dead_letter_topic="dlq",
        limit_bytes=limit_bytes,
        time_ms=1_700_000_000_123,
    )


def info_of(output: Output) -> DeadLetterInfo:
    info = unwrap(output[4])
    assert info is not None
    return info


@given(records, failures)
def test_the_record_comes_back_byte_for_byte(record: FakeRecord, failure: DataFailure) -> None:
    """Key, value and headers of a dead letter are the record's, whatever bytes they are."""
    topic, partition, key, value, wrapped = dead_letter(record, failure)
    assert (topic, partition) == ("dlq", record.partition())
    assert (key, value) == (record.key(), record.value())
    assert original_headers(wrapped) == original_headers(record.headers() or [])
    assert wrapped[: len(original_headers(record.headers() or []))] == original_headers(record.headers() or [])


@given(records, failures)
def test_the_reason_comes_back(record: FakeRecord, failure: DataFailure) -> None:
    """What the headers say is read again as it was written."""
    info = info_of(dead_letter(record, failure))
    assert (info.topic, info.partition, info.offset) == (record.topic(), record.partition(), record.offset())
    assert (info.code, info.stage, info.failure_class) == (failure.code.value, failure.code.stage, "data")
    assert (info.pipeline, info.model, info.time) == ("mine", "sentiment@abc123", "2023-11-14T22:13:20.123Z")
    assert not (info.value_omitted or info.headers_omitted or info.key_omitted)


def test_all_headers_by_name() -> None:
    """The names and values that Kafka UIs and tools read."""
    record = FakeRecord(b"x", topic="reviews", partition=3, offset=17)
    assert dict(dead_letter(record)[4]) == {
        "__connect.errors.topic": b"reviews",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"17",
        "__connect.errors.stage": b"infer",
        "__connect.errors.class.name": b"streamer.inference.worker",
        "__connect.errors.exception.class.name": b"ValueError",
        "__connect.errors.exception.message": b"It raised.",
        "streamer.error.code": b"infer.exception",
        "streamer.error.class": b"data",
        "streamer.error.attempts": b"1",
        "streamer.error.pipeline": b"mine",
        "streamer.error.model": b"sentiment@abc123",
        "streamer.error.time": b"2023-11-14T22:13:20.123Z",
    }


def test_without_exception_or_model() -> None:
    """A failure without exception names its code instead; without a model there is no model header."""
    info = info_of(dead_letter(FakeRecord(b"x"), DataFailure(Code.DECODE_JSON, "Not JSON."), card=None))
    assert (info.exception, info.model) == ("decode.json", None)


def test_a_second_failure_replaces_the_first() -> None:
    """Our headers never pile up: those of an earlier failure are replaced."""
    once = dead_letter(FakeRecord(b"x", headers=[("mine", b"1")]))
    twice = dead_letter(FakeRecord(b"x", headers=once[4], topic="elsewhere"), DataFailure(Code.INFER_NAN, "NaN."))
    assert len(twice[4]) == len(once[4])
    assert (info_of(twice).code, info_of(twice).topic) == ("infer.nan", "elsewhere")


def test_attempts_go_on_from_a_replay() -> None:
    """A replayed record's attempts are one more than its header says; nonsense there counts as the first."""
    replayed: Headers = [("streamer.replay.attempts", b"4"), ("streamer.replay.job", b"j")]
    output = dead_letter(FakeRecord(b"x", headers=replayed))
    assert info_of(output).attempts == 5
    assert output[4][:2] == replayed
    for nonsense in (b"-1", b"x", b"", b"9" * 100, None):
        assert info_of(dead_letter(FakeRecord(b"x", headers=[("streamer.replay.attempts", nonsense)]))).attempts == 1
    assert info_of(dead_letter(FakeRecord(b"x"), DataFailure(Code.INFER_WORKER_KILLED, "", attempts=3))).attempts == 3


@given(st.text(max_size=3_000))
def test_messages_are_bounded_and_on_one_line(message: str) -> None:
    """A message has at most 1,000 bytes of UTF-8 and no control character."""
    written = dict(dead_letter(FakeRecord(b"x"), DataFailure(Code.INFER_EXCEPTION, message))[4])
    encoded = written["__connect.errors.exception.message"]
    assert encoded is not None
    assert len(encoded) <= 1_000
    assert all(character.isprintable() or ord(character) > 0x9F for character in encoded.decode())
    assert "\u2028" not in encoded.decode()


@pytest.mark.case(18, 26)
def test_parts_go_in_order_until_it_fits() -> None:
    """As the topic's limit falls, first what only explains goes, then value, headers and key, each marked."""
    value = b"v" * 3_000
    own: Headers = [("mine", b"h" * 2_000)]
    record = FakeRecord(value, key=b"k" * 1_500, headers=own)
    failure = DataFailure(Code.INFER_EXCEPTION, "m" * 1_000)
    stages: list[tuple[bool, ...]] = []
    for limit_bytes in range(9_000, 1_900, -50):
        output = dead_letter(record, failure, limit_bytes)
        _, _, key, kept, wrapped = output
        info = info_of(output)
        assert size_bytes(key, kept, wrapped) <= limit_bytes
        assert info.code == "infer.exception"
        assert info.value_omitted == (kept is None)
        assert info.headers_omitted == (not original_headers(wrapped))
        assert info.key_omitted == (key is None)
        if info.value_omitted:
            assert (info.value_size, info.value_sha256) == (3_000, hashlib.sha256(value).hexdigest())
        stages.append((info.message is None, info.value_omitted, info.headers_omitted, info.key_omitted))
    assert [stage for stage, _ in itertools.groupby(stages)] == [
        (False, False, False, False),
        (True, False, False, False),
        (False, True, False, False),
        (False, True, True, False),
        (False, True, True, True),
    ]


def test_unreadable_headers_are_marked() -> None:
    """A record whose headers the client could not read says that they are missing."""
    info = info_of(dead_letter(BareRecord(FakeRecord(b"x"))))
    assert info.headers_omitted and not info.value_omitted


def test_other_records_are_no_dead_letters() -> None:
    """Headers of something else, or spoilt ones, are None and never raise."""
    good = dead_letter(FakeRecord(b"x"))[4]
    assert unwrap([]) is None
    assert unwrap([("__connect.errors.topic", b"in")]) is None
    for name in (
        "__connect.errors.topic",
        "__connect.errors.partition",
        "__connect.errors.offset",
        "streamer.error.code",
    ):
        assert unwrap([header for header in good if header[0] != name]) is None
    assert unwrap([*good, ("__connect.errors.offset", b"\xff")]) is None
    assert unwrap([*good, ("__connect.errors.exception.message", b"\xff")]) is not None


@given(headers)
def test_reading_never_raises(found: Headers) -> None:
    """No headers make the reader raise."""
    unwrap(found)
