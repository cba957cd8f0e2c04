"""Records to begin with: every format, and values on both sides of each rule."""

from __future__ import annotations

import json

from streamer.core.record import Headers

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

FORMS: list[Headers] = [
    [],
    [("content-type", b"application/json; charset=utf-8")],
    [("content-type", b"text/plain")],
    [("content-type", b"application/cloudevents+json")],
    [("ce_specversion", b"1.0"), ("ce_id", b"e1")],
    [("ce_specversion", b"1.0"), ("content-type", b"text/plain")],
    [("streamer.replay.id", b"r1"), ("streamer.replay.pipeline", b"mine"), ("streamer.replay.attempts", b"2")],
    [("traceparent", TRACEPARENT)],
]
"""Headers that choose how a value is read."""

NAMES = [
    "content-type",
    "Content-Type",
    "ce_specversion",
    "ce_id",
    "streamer.replay.id",
    "streamer.replay.pipeline",
    "streamer.replay.attempts",
    "traceparent",
    "__connect.errors.topic",
    "streamer.error.code",
    "é",
    "",
]
"""Names that mean something, and some that do not."""

ROWS: list[object] = [{"id": 7, "body": {"text": "a", "k": [1]}, "k": 1e300, "text_pair": "b"}, {"body.text": "a"}, []]

VALUES = [
    b'{"text": "a"}',
    b'{"id": 7, "text": "a", "text_pair": "b", "params": {"n": [1, null]}, "metadata": {"k": 1.5}}',
    b'{"text": "a", "id": -9223372036854775809, "text": "b"}',
    b'{"text": "\\ud800", "new": [true, {"deep": "\\u0000"}]}',
    b'{"text": ["a"], "metadata": null, "params": {"n": 1e999}}',
    b'{"text": "", "metadata": {"k": "\xff"}}',
    b'\xef\xbb\xbf{"text": "a"}',
    b"[[[[[[]]]]]]",
    "\u202eplain text \U0001f600".encode(),
    *(
        json.dumps(value).encode()
        for row in ROWS
        for value in (
            row,
            {"schema": {"type": "struct"}, "payload": row},
            {"op": "u", "before": None, "after": row, "source": {}},
            {"schema": None, "payload": {"op": "d", "before": row, "after": None}},
            {"schema": None, "payload": None},
        )
    ),
    *(
        json.dumps({"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", **body}).encode()
        for body in (
            {"data": {"text": "a", "id": "inner", "metadata": {"k": 1}}},
            {"data": "a", "datacontenttype": "text/plain"},
            {"data": 1e300, "datacontenttype": "text/plain"},
            {"data_base64": "eyJ0ZXh0IjogImEifQ==", "datacontenttype": "application/json"},
            {"data_base64": "YQ==", "datacontenttype": "text/plain"},
            {"data": {}, "data_base64": ""},
        )
    ),
]
