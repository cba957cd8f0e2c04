"""Events that others have shaped: paths, ids, what is kept, and the envelopes of Connect and Debezium."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.config.load import PipelineConfig, load
from streamer.config.shapes import shape_of
from streamer.core.events.codec import Codec, event_id
from streamer.core.record import Headers, Outcome, Segment, Skipped, TextEvent
from streamer.errors import Code, ConfigurationError, DataFailure
from tests.records import FakeRecord

SECRET = "hunter2"


def decode(value: Any, headers: Headers | None = None, **fields: Any) -> TextEvent | Outcome | None:
    """What a value becomes, bytes as they are and all else as JSON, in a pipeline with these fields."""
    if value is not None and not isinstance(value, bytes):
        value = json.dumps(value).encode()
    shape = shape_of(PipelineConfig(task="t", model="m", input=["in"], output="out", **fields))
    segment = Segment("in", 0, 1, [FakeRecord(value, headers=headers)])
    Codec("mine", shape=shape).decode(segment)
    assert (segment.events[0] is None) == (segment.outcomes[0] is not None)
    return segment.events[0] or segment.outcomes[0]


def failure(value: Any, headers: Headers | None = None, **fields: Any) -> DataFailure:
    outcome = decode(value, headers, **fields)
    assert isinstance(outcome, DataFailure), outcome
    assert SECRET not in outcome.message
    return outcome


def row(text: object = "a", **more: object) -> dict[str, Any]:
    return {"id": 7, "body": {"message": text}, **more}


def test_only_what_is_named_is_read() -> None:
    """A path or a field with dots in its name; no field of our own format is taken where it was not named."""
    foreign = {**row(metadata={"x": 1}, params="not ours"), "text": 3}
    assert decode(foreign, text_field="body.message") == TextEvent("a")
    assert decode(foreign, text_field="body.message", id_field="id") == TextEvent("a", 7)
    assert decode({"a.b": "literal", "a": {"b": "path"}}, text_field="a.b") == TextEvent("literal")
    assert decode({"q": "why", "doc": {"body": "as"}}, text_field="q", text_pair_field="doc.body") == TextEvent(
        "why", text_pair="as"
    )


def test_fields_are_kept_as_they_were_written() -> None:
    """Under the names of the configuration, with the very digits; null where nothing stands."""
    value = b'{"t": "a", "n": 1.10, "big": 123456789012345678901234567890, "in": {"x": [1, "\\u00e9"]}}'
    event = decode(value, text_field="t", keep=["n", "in.x", "gone", "big"])
    assert isinstance(event, TextEvent)
    assert event.metadata is not None
    assert bytes(event.metadata) == (
        b'{"n":1.10,"in.x":[1, "\\u00e9"],"gone":null,"big":123456789012345678901234567890}'
    )
    event = decode(value, text_field="t", keep=["*"])
    assert isinstance(event, TextEvent)
    assert event.metadata is not None
    assert list(json.loads(bytes(event.metadata))) == ["n", "big", "in"]


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ({}, Code.VALIDATE_TEXT, "$.body is missing"),
        ({"body": None}, Code.VALIDATE_TEXT, "$.body is null, not an object"),
        ({"body": SECRET}, Code.VALIDATE_TEXT, "$.body is a string, not an object"),
        ({"body": {"msg": SECRET}}, Code.VALIDATE_TEXT, "$.body.message is missing"),
        (row(None), Code.VALIDATE_TEXT, "$.body.message is null, not a string"),
        (row(12), Code.VALIDATE_TEXT, "$.body.message is a number, not a string"),
        (row([SECRET]), Code.VALIDATE_TEXT, "$.body.message is an array, not a string"),
        (row(""), Code.VALIDATE_EMPTY_TEXT, "$.body.message is an empty string"),
        (row(id={"$oid": SECRET}), Code.VALIDATE_ID, "$.id is an object"),
        (row(id=1.5), Code.VALIDATE_ID, "$.id is a number"),
        (row(id=True), Code.VALIDATE_ID, "$.id is a boolean"),
        (row(id=2**64), Code.VALIDATE_ID, "$.id is an integer of more than 64 bits"),
        (row(id=SECRET * 40), Code.VALIDATE_ID, "$.id has 280 characters"),
        (row(id=""), Code.VALIDATE_ID, "$.id has 0 characters"),
        (row(note="x" * 9000), Code.VALIDATE_METADATA, "`keep` have 9011 bytes"),
        ([SECRET], Code.VALIDATE_TYPE, "$ is an array, not an object"),
        (b"hunter2", Code.DECODE_JSON, "$ is not JSON from character 0 on"),
        (b"", Code.DECODE_EMPTY, "0 bytes"),
        (b'{"body": {"message": "\xff"}}', Code.DECODE_UTF8, "not UTF-8 from byte 22 on"),
        (b'{"other": "\xff", "body": {"message": "a"}}', Code.DECODE_UTF8, "not UTF-8 from byte 11 on"),
        (b'{"body": {"message": "\\ud800"}}', Code.DECODE_JSON, "half a surrogate pair"),
        (b"\0\0\0\0\x07\x02hunter2", Code.DECODE_JSON, "Avro, Protobuf or JSON Schema"),
    ],
)
def test_every_refusal_names_the_path_and_quotes_nothing(value: Any, code: Code, says: str) -> None:
    """Nothing is guessed: what is not there as it was named is a dead letter."""
    found = failure(value, text_field="body.message", id_field="id", keep=["note"])
    assert found.code is code, found
    assert says in found.message


def test_an_absent_id_is_the_record_s_place() -> None:
    """As in events of our own format; one in a header comes first."""
    for value in ({"t": "a"}, {"t": "a", "id": None}):
        event = decode(value, text_field="t", id_field="id")
        assert event == TextEvent("a")
        assert event_id(FakeRecord(b"", topic="t", partition=1, offset=2), event) == "t/1/2"


@pytest.mark.parametrize("wrapped", [True, False])
def test_debezium(wrapped: bool) -> None:
    """Rows after creations, updates and snapshots are events, with or without a schema; the rest is skipped by name."""

    def change(op: object, after: object, **more: object) -> dict[str, Any]:
        body = {"before": None, "after": after, "source": {"table": "t"}, "op": op, "ts_ms": 1, **more}
        return {"schema": {"type": "struct", "fields": []}, "payload": body} if wrapped else body

    fields: dict[str, Any] = {"text_field": "text", "id_field": "id", "envelope": "debezium"}
    for op in "cur":
        assert decode(change(op, {"id": 5, "text": "a"}), **fields) == TextEvent("a", 5)
    assert decode(change("d", None), **fields) == Skipped("delete")
    assert decode(change("t", None), **fields) == Skipped("truncate")
    assert decode(change("m", None, message={"prefix": "p"}), **fields) == Skipped("message")
    assert decode(None, **fields) == Skipped("tombstone")
    where = "$.payload" if wrapped else "$"
    for value, says in (
        (change("u", {"id": 5}), f"{where}.after.text is missing"),
        (change("u", None), f"{where}.after is null, not an object"),
        (change("u", json.dumps({"text": SECRET})), f"{where}.after is a string, not an object, as the MongoDB"),
        (change("x", {"text": SECRET}), f"{where}.op is not c, u, r, d, t or m"),
        (change(None, {"text": SECRET}), f"{where}.op is not c, u, r"),
    ):
        assert says in failure(value, **fields).message
    assert "$.op is missing" in failure({"text": SECRET}, **fields).message


def test_connect() -> None:
    """The payload beside a schema; a payload of null is how Connect writes a tombstone there."""
    fields: dict[str, Any] = {"text_field": "text", "envelope": "connect"}
    assert decode({"schema": {"type": "struct"}, "payload": {"text": "a"}}, **fields) == TextEvent("a")
    assert decode({"schema": None, "payload": None}, **fields) == Skipped("tombstone")
    assert "$.payload is a string, not an object" in failure({"schema": 1, "payload": SECRET}, **fields).message
    assert "$.payload is missing" in failure({"text": SECRET}, **fields).message


def test_an_envelope_that_was_not_named_is_suggested_not_guessed() -> None:
    """The dead letter says which setting reads it."""
    assert 'envelope = "connect"' in failure({"schema": {}, "payload": {"text": SECRET}}, text_field="text").message
    change = {"before": None, "after": {"text": SECRET}, "op": "c", "source": {}}
    assert 'envelope = "debezium"' in failure(change, text_field="text").message


def test_headers_still_name_the_format() -> None:
    """The data of a CloudEvent has the shape; any JSON type is JSON, and a text has no fields."""
    value, fields = json.dumps(row()).encode(), {"text_field": "body.message"}
    for name in (b"application/json", b"application/vnd.shop.v2+json; charset=utf-8"):
        assert decode(value, [("content-type", name)], **fields) == TextEvent("a")
    cloud = {"specversion": "1.0", "id": "c1", "data": row()}
    assert decode(cloud, [("content-type", b"application/cloudevents+json")], **fields) == TextEvent("a", "c1")
    bad = {**cloud, "data": {}}
    found = failure(bad, [("content-type", b"application/cloudevents+json")], **fields)
    assert "$.data.body is missing" in found.message
    for name in (b"text/plain", b"application/vnd.x+json; charset=latin-1", b"application/avro"):
        found = failure(value, [("content-type", name)], **fields)
        assert (found.code, "body.message" in found.message) == (Code.DECODE_CONTENT_TYPE, True)
    assert failure(value, [("content-type", b"application/vnd.x+json")]).code is Code.DECODE_CONTENT_TYPE


def test_the_configuration_refuses_half_a_shape() -> None:
    """Fields that mean nothing without text_field, and paths that lead nowhere."""
    base = ["task=embedding", "model=builtin:null", "input=a", "output=b"]

    def loaded(*more: str) -> PipelineConfig:
        return load(None, {}, [f"pipelines.p.{each}" for each in (*base, *more)]).pipelines["p"]

    assert loaded("text_field=body.message", "keep=a, b").keep == ["a", "b"]
    for more in ("id_field=id", "keep=a", "envelope=debezium", "text_pair_field=x"):
        with pytest.raises(ConfigurationError, match=rf"{more.partition('=')[0]}: .*name text_field too"):
            loaded(more)
    with pytest.raises(ConfigurationError, match=r"text_field: .*empty part"):
        loaded("text_field=body..message")
    with pytest.raises(ConfigurationError, match="envelope"):
        loaded("text_field=a", "envelope=avro")
