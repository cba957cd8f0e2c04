"""The codec: what is an event, what is not, and the code of every refusal."""

from __future__ import annotations

import base64
import json

import pytest

from streamer.core.events.codec import Codec, Limits, event_id
from streamer.core.record import BareRecord, Headers, Outcome, Segment, Skipped, TextEvent, TraceParent
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "hunter2"


def segment_of(*records: FakeRecord) -> Segment:
    return Segment("in", 0, 1, list(records))


def decode(value: bytes | None, headers: Headers | None = None, **limits: int) -> TextEvent | Outcome | None:
    """What one record becomes."""
    segment = segment_of(FakeRecord(value, headers=headers))
    Codec("mine", Limits(**limits)).decode(segment)
    assert (segment.events[0] is None) == (segment.outcomes[0] is not None)
    return segment.events[0] or segment.outcomes[0]


def text_of(value: bytes, headers: Headers | None = None) -> str:
    event = decode(value, headers)
    assert isinstance(event, TextEvent), event
    return event.text


JSON_TYPE: Headers = [("content-type", b"application/json")]
TEXT_TYPE: Headers = [("content-type", b"text/plain")]
CLOUD_TYPE: Headers = [("content-type", b"application/cloudevents+json")]


@pytest.mark.case(21, 22, 23, 24)
@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", Code.DECODE_EMPTY),
        (b"hunter2", Code.DECODE_JSON),
        (b'{"text": "hunter2"', Code.DECODE_JSON),
        (b'{"text": "hunter2"} hunter2', Code.DECODE_JSON),
        (b'{"text": "hunter2", "x": "\\q"}', Code.DECODE_JSON),
        (b'\xef\xbb\xbf{"text": "hunter2"}', Code.DECODE_JSON),
        (b'{"text": "hunter2", "n": NaN}', Code.DECODE_JSON),
        (b'{"text": "hunter2", "n": -Infinity}', Code.DECODE_JSON),
        (b'{"text": "hunter2", "n": "\\ud800 hunter2"}', Code.DECODE_JSON),
        (
            b'{"text": "hunter2", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            Code.DECODE_JSON,
        ),
        (b"[" * 100_000, Code.DECODE_JSON),
        (b'{"text": "hunter2\xff"}', Code.DECODE_UTF8),
        (b'{"text": "hunter2", "n": "\xff"}', Code.DECODE_UTF8),
        (b'{"text": "hunter2", "metadata": {"n": "\xff"}}', Code.DECODE_UTF8),
        (b'{"text": "\xed\xa0\x80"}', Code.DECODE_UTF8),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", Code.DECODE_UTF8),
        ('{"text": "hunter2"}'.encode("utf-16"), Code.DECODE_UTF8),
        (b"[1]", Code.VALIDATE_TYPE),
        (b'"hunter2"', Code.VALIDATE_TYPE),
        (b"null", Code.VALIDATE_TYPE),
        (b"12", Code.VALIDATE_TYPE),
        (b"{}", Code.VALIDATE_TEXT),
        (b'{"text": null}', Code.VALIDATE_TEXT),
        (b'{"text": ["hunter2"]}', Code.VALIDATE_TEXT),
        (b'{"Text": "hunter2"}', Code.VALIDATE_TEXT),
        (b'{"text": "hunter2\\ud800"}', Code.VALIDATE_TEXT),
        (b'{"text": "\\udc00 hunter2 \\ud800"}', Code.VALIDATE_TEXT),
        (b'{"text": "", "id": "hunter2"}', Code.VALIDATE_EMPTY_TEXT),
        (b'{"text": "a", "text_pair": 1}', Code.VALIDATE_TEXT_PAIR),
        (b'{"text": "a", "text_pair": "hunter2\\udfff"}', Code.VALIDATE_TEXT_PAIR),
        (b'{"text": "a", "id": true}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": 1.5}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": 1e999}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": ""}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": "' + b"x" * 257 + b'"}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": "\\ud800hunter2"}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": ["hunter2"]}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": ' + b"9" * 5_000 + b"}", Code.VALIDATE_ID),
        (b'{"text": "a", "id": 18446744073709551616}', Code.VALIDATE_ID),
        (b'{"text": "a", "id": -9223372036854775809}', Code.VALIDATE_ID),
        (b'{"text": "a", "params": ["hunter2"]}', Code.VALIDATE_PARAMS),
        (
            b'{"text": "a", "params": {"labels": ["\\ud800hunter2"]}}',
            Code.VALIDATE_PARAMS,
        ),
        (b'{"text": "a", "params": {"n": 1e999}}', Code.VALIDATE_PARAMS),
        (
            b'{"text": "a", "params": {"n": ' + b"9" * 5_000 + b"}}",
            Code.VALIDATE_PARAMS,
        ),
        (b'{"text": "a", "metadata": "hunter2"}', Code.VALIDATE_METADATA),
        (b'{"text": "a", "metadata": [1]}', Code.VALIDATE_METADATA),
        (
            b'{"text": "a", "metadata": {"hunter2": "' + b"x" * 8_192 + b'"}}',
            Code.VALIDATE_METADATA,
        ),
        (
            b'{"text": "a", "metadata": {"x": "\\ud800 hunter2"}}',
            Code.VALIDATE_METADATA,
        ),
    ],
)
def test_every_refusal_has_its_code_and_quotes_nothing(value: bytes, code: Code) -> None:
    """A value that is no event becomes a data failure with the cause's own code; its message never quotes it."""
    outcome = decode(value)
    assert isinstance(outcome, DataFailure), outcome
    assert outcome.code is code, outcome
    assert outcome.message
    assert SECRET not in outcome.message
    assert SECRET not in outcome.exception


@pytest.mark.case(21)
@pytest.mark.case(55)
@pytest.mark.parametrize("data", [b'{"text": "hunter2"}', b"\x0ehunter2", b"\x00\x0a\x07hunter2", b"\xff" * 9])
def test_the_framing_of_a_schema_registry_is_hinted_at(data: bytes) -> None:
    """Whatever lies behind it, JSON included: the message says what to send instead, and quotes nothing."""
    outcome = decode(b"\x00\x00\x00\x00\x07" + data)
    assert isinstance(outcome, DataFailure)
    assert outcome.code is Code.DECODE_JSON
    assert "serializers of a schema registry" in outcome.message
    assert "hunter2" not in outcome.message


def test_the_byte_order_mark_is_named() -> None:
    """A value that starts with a byte order mark is refused with a message that says so."""
    outcome = decode(b'\xef\xbb\xbf{"text": "a"}')
    assert isinstance(outcome, DataFailure)
    assert "byte order mark" in outcome.message


@pytest.mark.case(25)
@pytest.mark.parametrize("text", [" ", "\n\t", "😀", "a\x00b", "\u202eabc", "日本語", "é" * 1_000_000])
def test_any_text_but_the_empty_one_is_valid(text: str) -> None:
    """White space, emoji, NUL, right-to-left marks and a megabyte of text come through unchanged."""
    assert text_of(json.dumps({"text": text}).encode()) == text
    assert text_of(json.dumps({"text": text}, ensure_ascii=False).encode()) == text
    assert text_of(text.encode(), TEXT_TYPE) == text


@pytest.mark.case(24)
def test_an_event_comes_with_all_its_fields() -> None:
    """All known fields are read, unknown ones ignored, and metadata passes byte for byte."""
    event = decode(
        b'{"id": "r1", "text": "a", "text_pair": "b", "params": {"n": 1}, "metadata": { "k":\t1.50 }, "new": [NULL]}'
        .replace(b"NULL", b"null")
    )  # fmt: skip
    assert isinstance(event, TextEvent)
    assert (event.id, event.text, event.text_pair, event.params) == (
        "r1",
        "a",
        "b",
        {"n": 1},
    )
    assert event.metadata is not None
    assert bytes(event.metadata) == b'{ "k":\t1.50 }'


@pytest.mark.case(24)
def test_null_means_absent() -> None:
    """An optional field that is null is the same as one that is not there."""
    nulls = decode(b'{"text": "a", "id": null, "text_pair": null, "params": null, "metadata": null}')
    assert nulls == decode(b'{"text": "a"}') == TextEvent("a")


@pytest.mark.case(22)
def test_the_last_of_a_repeated_field_counts() -> None:
    """Of a field that comes twice the last one is read."""
    assert text_of(b'{"text": "a", "text": "b"}') == "b"


@pytest.mark.parametrize("number", [0, 7, -(2**63), 2**64 - 1])
def test_integers_of_64_bits_are_ids(number: int) -> None:
    """An integer id is kept, and read as its decimal digits."""
    event = decode(b'{"text": "a", "id": %d}' % number)
    assert isinstance(event, TextEvent)
    assert event.id == number
    assert event_id(FakeRecord(b""), event) == str(number)


@pytest.mark.promise(5)
def test_a_bad_record_leaves_its_neighbours_alone() -> None:
    """Events, outcomes and the counts run in parallel to the records, whatever lies between the good ones."""
    segment = segment_of(
        FakeRecord(b'{"text": "a"}'),
        FakeRecord(b"nonsense"),
        FakeRecord(None),
        FakeRecord(b'{"text": "b"}'),
    )
    Codec("mine").decode(segment)
    assert segment.events == [TextEvent("a"), None, None, TextEvent("b")]
    assert segment.outcomes[0] is None and segment.outcomes[3] is None
    assert isinstance(segment.outcomes[1], DataFailure)
    assert segment.outcomes[2] == Skipped("tombstone")
    assert (segment.open, segment.failures) == (2, 1)


class PoisonRecord(FakeRecord):
    """As confluent-kafka answers for a header name that is not UTF-8: it raises once, then returns a broken list."""

    asked = 0

    def headers(self) -> Headers | None:
        self.asked += 1
        raise SystemError("returned a result with an exception set")


def test_headers_that_the_client_cannot_read_are_asked_for_once() -> None:
    """A header name that is not UTF-8 is that record's failure, and nobody asks the client's message again."""
    poison = PoisonRecord(b'{"text": "a"}', key=b"k", partition=3, offset=9)
    segment = segment_of(FakeRecord(b'{"text": "a"}'), poison, FakeRecord(b'{"text": "b"}'))
    Codec("mine").decode(segment)
    outcome, record = segment.outcomes[1], segment.records[1]
    assert isinstance(outcome, DataFailure) and outcome.code is Code.DECODE_UTF8
    assert isinstance(record, BareRecord)
    assert record.headers() is None
    assert (record.topic(), record.partition(), record.offset(), record.key()) == (
        "in",
        3,
        9,
        b"k",
    )
    assert (record.value(), record.timestamp()) == (poison.value(), poison.timestamp())
    assert poison.asked == 1
    assert segment.events[2] == TextEvent("b")


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON; Charset=UTF-8",
        b'application/json;charset="utf-8"',
        b"",
    ],
)
def test_json_by_content_type(content_type: bytes) -> None:
    """JSON is read with no content type, an empty one, or application/json in UTF-8, in any case of letters."""
    assert text_of(b'{"text": "a"}', [("Content-Type", content_type)]) == "a"


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/avro",
        b"application/cloudevents+avro",
        b"application/cloudevents-batch+json",
        b"text/html",
        b"application/json; charset=latin-1",
        b"text/plain; charset=utf-16",
        b"text/plain" + b" " * 1_000,
        b"\xff\xfe",
    ],
)
def test_other_content_types_are_refused(content_type: bytes) -> None:
    """A format that we can't read is never guessed at."""
    outcome = decode(b'{"text": "a"}', [("content-type", content_type)])
    assert isinstance(outcome, DataFailure)
    assert outcome.code is Code.DECODE_CONTENT_TYPE


def test_plain_text_is_the_text_itself() -> None:
    """With text/plain the value is the text, even where it looks like JSON; bytes that are not UTF-8 are refused."""
    assert text_of(b'{"text": "a"}', TEXT_TYPE) == '{"text": "a"}'
    assert text_of(b"a", [("content-type", b"text/plain; charset=utf-8")]) == "a"
    outcome = decode(b"caf\xe9", TEXT_TYPE)
    assert isinstance(outcome, DataFailure) and outcome.code is Code.DECODE_UTF8
    outcome = decode(b"", TEXT_TYPE)
    assert isinstance(outcome, DataFailure) and outcome.code is Code.DECODE_EMPTY


@pytest.mark.case(26)
def test_the_last_of_a_repeated_header_counts() -> None:
    """Of a header that comes twice the last one is read, whatever its case for the content type."""
    assert (
        text_of(
            b"[a]",
            [("content-type", b"application/json"), ("CONTENT-TYPE", b"text/plain")],
        )
        == "[a]"
    )


@pytest.mark.case(26)
def test_a_flood_of_headers_is_read_from_its_end() -> None:
    """Of very many headers only the last ones count, where ours are."""
    flood: Headers = [
        ("content-type", b"text/plain"),
        *[("x", b"y")] * 50,
        ("ce_id", b"e1"),
    ]
    event = decode(b'{"text": "a"}', flood, max_headers=10)
    assert isinstance(event, TextEvent) and event.text == "a"


def test_too_large_a_value_is_refused_unread() -> None:
    """A value over the limit is a failure that names both sizes."""
    outcome = decode(b'{"text": "aaaaaaaaaa"}', max_value_bytes=20)
    assert isinstance(outcome, DataFailure)
    assert outcome.code is Code.VALIDATE_TEXT
    assert "22" in outcome.message and "20" in outcome.message


def test_binary_cloudevents() -> None:
    """With ce_specversion the value is the data, in the format of its content type; another version is refused."""
    spec = ("ce_specversion", b"1.0")
    assert text_of(b'{"text": "a"}', [spec]) == "a"
    assert text_of(b'{"text": "a"}', [spec, *JSON_TYPE]) == "a"
    assert text_of(b"a", [spec, *TEXT_TYPE]) == "a"
    for version in (b"0.3", b"", None):
        outcome = decode(b'{"text": "a"}', [("ce_specversion", version)])
        assert isinstance(outcome, DataFailure) and outcome.code is Code.DECODE_CLOUDEVENT


@pytest.mark.parametrize(
    "envelope",
    [
        {"data": {"text": "a", "id": "inner"}},
        {"data": {"text": "a"}, "datacontenttype": "application/json"},
        {"data": "a", "datacontenttype": "text/plain"},
        {"data_base64": base64.b64encode(b'{"text": "a"}').decode()},
        {
            "data_base64": base64.b64encode(b"a").decode(),
            "datacontenttype": "text/plain",
        },
    ],
)
def test_structured_cloudevents(envelope: dict[str, object]) -> None:
    """A structured CloudEvent's data is read by its content type, and its id is the event's."""
    body = {"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", **envelope}
    event = decode(json.dumps(body).encode(), CLOUD_TYPE)
    assert isinstance(event, TextEvent), event
    assert (event.text, event.id) == ("a", "e1")


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        ({"specversion": "0.3", "data": {"text": "a"}}, Code.DECODE_CLOUDEVENT),
        ({"specversion": None, "data": {"text": "a"}}, Code.DECODE_CLOUDEVENT),
        ({"id": 1, "data": {"text": "a"}}, Code.DECODE_CLOUDEVENT),
        ({}, Code.DECODE_CLOUDEVENT),
        ({"data": {"text": "a"}, "data_base64": "e30="}, Code.DECODE_CLOUDEVENT),
        ({"data_base64": "hunter2!"}, Code.DECODE_CLOUDEVENT),
        ({"data_base64": "é"}, Code.DECODE_CLOUDEVENT),
        ({"data_base64": ""}, Code.DECODE_EMPTY),
        ({"data": 5, "datacontenttype": "text/plain"}, Code.DECODE_CLOUDEVENT),
        ({"data": "", "datacontenttype": "text/plain"}, Code.VALIDATE_EMPTY_TEXT),
        ({"data": "a", "datacontenttype": "text/html"}, Code.DECODE_CONTENT_TYPE),
        ({"data": "a", "datacontenttype": "日本"}, Code.DECODE_CONTENT_TYPE),
        ({"data": "hunter2"}, Code.VALIDATE_TYPE),
        ({"data": {"text": ""}}, Code.VALIDATE_EMPTY_TEXT),
        ({"data": {}}, Code.VALIDATE_TEXT),
        ({"id": "", "data": {"text": "a"}}, Code.VALIDATE_ID),
        ({"id": "x" * 257, "data": {"text": "a"}}, Code.VALIDATE_ID),
    ],
)
def test_bad_structured_cloudevents(envelope: dict[str, object], code: Code) -> None:
    """A faulty envelope is decode.cloudevent; faults of its data keep their own codes and name the path."""
    body = {"specversion": "1.0", "source": "/s", "type": "t", **envelope}
    outcome = decode(json.dumps(body).encode(), CLOUD_TYPE)
    assert isinstance(outcome, DataFailure)
    assert outcome.code is code, outcome
    assert SECRET not in outcome.message


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"[]", Code.DECODE_CLOUDEVENT),
        (b"{", Code.DECODE_JSON),
        (b'{"data": "\xff"}', Code.DECODE_UTF8),
        (b'{"specversion": "1.0", "datacontenttype": "text/plain", "data": 1e999}', Code.DECODE_CLOUDEVENT),
        (
            b'{"specversion": "1.0", "datacontenttype": "text/plain", "data": ' + b"9" * 5_000 + b"}",
            Code.DECODE_CLOUDEVENT,
        ),
    ],
)
def test_envelopes_that_can_not_be_read(value: bytes, code: Code) -> None:
    """A structured CloudEvent that is no JSON object, or whose text is a number beyond every type, says which it is."""
    outcome = decode(value, CLOUD_TYPE)
    assert isinstance(outcome, DataFailure) and outcome.code is code


# --- ids, replays, traces --------------------------------------------------------------------------------------------


def test_the_order_of_ids() -> None:
    """An id is the replayed one, else the CloudEvent's, else the body's, else the record's place."""
    event = TextEvent("a", id="body")

    def record(headers: Headers | None = None) -> FakeRecord:
        return FakeRecord(b"", headers=headers, topic="t", partition=2, offset=3)

    assert event_id(record([("ce_id", b"cloud"), ("streamer.replay.id", b"first")]), event) == "first"
    assert event_id(record([("ce_id", b"cloud")]), event) == "cloud"
    assert event_id(record(), event) == "body"
    assert event_id(record([("x", b"")]), TextEvent("a")) == "t/2/3"
    assert event_id(record([("ce_id", b"\xff")]), None) == "\ufffd"


@pytest.mark.parametrize("name", ["ce_id", "streamer.replay.id"])
@pytest.mark.parametrize("value", [b"", b"\xff", b"x" * 257])
def test_bad_ids_in_headers(name: str, value: bytes) -> None:
    """An id header that is empty, too long or not UTF-8 is validate.id."""
    outcome = decode(b'{"text": "a"}', [(name, value)])
    assert isinstance(outcome, DataFailure) and outcome.code is Code.VALIDATE_ID


def test_replays_for_another_pipeline_are_skipped() -> None:
    """A replayed record that names another pipeline is skipped, whatever it holds; ours is read."""
    assert decode(b"nonsense", [("streamer.replay.pipeline", b"other")]) == Skipped("replay")
    assert text_of(b'{"text": "a"}', [("streamer.replay.pipeline", b"mine")]) == "a"


@pytest.mark.case(23)
def test_tombstones_are_skipped() -> None:
    """A record without value is skipped, with headers or without."""
    assert decode(None) == Skipped("tombstone")
    assert decode(None, [("traceparent", TRACEPARENT)]) == Skipped("tombstone")


@pytest.mark.case(26)
def test_trace_contexts_are_read_and_bad_ones_counted() -> None:
    """Good contexts run in parallel to the records; a bad one is counted and harms nothing."""
    segment = segment_of(
        FakeRecord(b'{"text": "a"}'),
        FakeRecord(b'{"text": "a"}', headers=[("traceparent", TRACEPARENT)]),
        FakeRecord(b'{"text": "a"}', headers=[("traceparent", b"\xff\xfe")]),
    )
    codec = Codec("mine")
    codec.decode(segment)
    assert segment.traces == [
        None,
        TraceParent(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True),
        None,
    ]
    assert segment.open == 3
    assert codec.bad_traceparents == 1


def test_no_traces_where_nobody_has_one() -> None:
    """A segment without trace contexts has no list of them."""
    segment = segment_of(FakeRecord(b'{"text": "a"}', headers=[("x", b"y")]))
    Codec("mine").decode(segment)
    assert segment.traces is None
