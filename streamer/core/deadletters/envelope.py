"""A dead letter's wire form: the record as it was, and why, in headers.

Value, key and headers are the record's own bytes. What we add replaces what an earlier failure of the same record
had added. Where all of it does not fit the dead-letter topic, parts go in this order until it fits:

1. our headers that only explain: message, exception, component and model;
2. the value (its SHA-256 and size stay), with the explaining headers back;
3. the record's own headers;
4. the key.

Each part of the record that went is marked `omitted`: such a dead letter can be counted and explained, not replayed.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from streamer.core import headers as names
from streamer.core.output import Output, size_bytes
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import BareRecord, Headers, Record
from streamer.errors import DataFailure, FailureClass

MAX_MESSAGE_BYTES = 1_000
MAX_NAME_BYTES = 256

_OURS = (names.CONNECT_PREFIX, names.ERROR_PREFIX)
_OMITTED = b"omitted"
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")

# The component that judges at a stage, in the place where Kafka Connect names its class. Readers may select
# by these: they stay as they are when the code moves.
COMPONENTS = {
    "decode": "streamer.core.codec.Codec",
    "validate": "streamer.core.codec.Codec",
    "infer": "streamer.inference.worker",
    "publish": "streamer.core.encoder.Encoder",
}


class DeadLetterInfo(msgspec.Struct, frozen=True):
    """What the headers of a dead letter say. `time` is ISO 8601 in UTC; `model` is `name@revision`."""

    topic: str
    partition: int
    offset: int
    stage: str
    code: str
    failure_class: str
    attempts: int
    pipeline: str
    time: str
    message: str | None = None
    exception: str | None = None
    component: str | None = None
    model: str | None = None
    value_omitted: bool = False
    value_sha256: str | None = None
    value_size: int | None = None
    headers_omitted: bool = False
    key_omitted: bool = False


def wrap(
    record: Record,
    failure: DataFailure,
    *,
    pipeline: str,
    card: ModelCard | None,
    dead_letter_topic: str,
    limit_bytes: int,
    time_ms: int,
) -> Output:
    """The dead letter of a record: on the record's own partition number, at most `limit_bytes` on the wire.

    Attempts are the failure's own, or for a replayed record one more than its header says.
    """
    key, value = record.key(), record.value()
    own = original_headers(record.headers() or [])
    attempts = _integer(dict(own).get(names.REPLAY_ATTEMPTS))
    needed: Headers = [
        (names.CONNECT_TOPIC, record.topic().encode()),
        (names.CONNECT_PARTITION, b"%d" % record.partition()),
        (names.CONNECT_OFFSET, b"%d" % record.offset()),
        (names.CONNECT_STAGE, failure.code.stage.encode()),
        (names.ERROR_CODE, failure.code.value.encode()),
        (names.ERROR_CLASS, FailureClass.DATA.value.encode()),
        (names.ERROR_ATTEMPTS, b"%d" % (failure.attempts if attempts is None else attempts + 1)),
        (names.ERROR_PIPELINE, _clean(pipeline, MAX_NAME_BYTES)),
        (names.ERROR_TIME, _iso(time_ms)),
    ]
    if isinstance(record, BareRecord):
        needed.append((names.ERROR_HEADERS, _OMITTED))
    explaining: Headers = [
        (names.CONNECT_CLASS, COMPONENTS[failure.code.stage].encode()),
        (names.CONNECT_EXCEPTION, _clean(failure.exception or failure.code.value, MAX_NAME_BYTES)),
        (names.CONNECT_MESSAGE, _clean(failure.message, MAX_MESSAGE_BYTES)),
    ]
    if card is not None:
        explaining.append((names.ERROR_MODEL, _clean(f"{card.name}@{card.revision}", MAX_NAME_BYTES)))

    def output(key: bytes | None, value: bytes | None, headers: Headers) -> Output:
        return dead_letter_topic, record.partition(), key, value, headers

    ours = needed + explaining
    for headers in (own + ours, own + needed):
        if size_bytes(key, value, headers) <= limit_bytes:
            return output(key, value, headers)
    if value is not None:
        ours += [
            (names.ERROR_VALUE, _OMITTED),
            (names.ERROR_VALUE_SHA256, hashlib.sha256(value).hexdigest().encode()),
            (names.ERROR_VALUE_SIZE, b"%d" % len(value)),
        ]
    if size_bytes(key, None, own + ours) <= limit_bytes:
        return output(key, None, own + ours)
    if own:
        ours.append((names.ERROR_HEADERS, _OMITTED))
    if size_bytes(key, None, ours) <= limit_bytes:
        return output(key, None, ours)
    return output(None, None, [*ours, (names.ERROR_KEY, _OMITTED)])


def unwrap(headers: Headers) -> DeadLetterInfo | None:
    """What a dead letter's headers say, or None when they are not those of a dead letter of ours. Never raises."""
    named = dict(headers)
    text = {name: value.decode("utf-8", "replace") for name, value in named.items() if value and name.startswith(_OURS)}
    partition, offset = _integer(named.get(names.CONNECT_PARTITION)), _integer(named.get(names.CONNECT_OFFSET))
    topic, code = text.get(names.CONNECT_TOPIC), text.get(names.ERROR_CODE)
    if topic is None or partition is None or offset is None or code is None:
        return None
    return DeadLetterInfo(
        topic=topic,
        partition=partition,
        offset=offset,
        stage=text.get(names.CONNECT_STAGE, code.partition(".")[0]),
        code=code,
        failure_class=text.get(names.ERROR_CLASS, FailureClass.DATA.value),
        attempts=_integer(named.get(names.ERROR_ATTEMPTS)) or 1,
        pipeline=text.get(names.ERROR_PIPELINE, ""),
        time=text.get(names.ERROR_TIME, ""),
        message=text.get(names.CONNECT_MESSAGE),
        exception=text.get(names.CONNECT_EXCEPTION),
        component=text.get(names.CONNECT_CLASS),
        model=text.get(names.ERROR_MODEL),
        value_omitted=names.ERROR_VALUE in named,
        value_sha256=text.get(names.ERROR_VALUE_SHA256),
        value_size=_integer(named.get(names.ERROR_VALUE_SIZE)),
        headers_omitted=names.ERROR_HEADERS in named,
        key_omitted=names.ERROR_KEY in named,
    )


def original_headers(headers: Headers) -> Headers:
    """A dead letter's headers without what we added: those that the record came with."""
    return [header for header in headers if not header[0].startswith(_OURS)]


def _clean(text: str, limit_bytes: int) -> bytes:
    """UTF-8 on one line, control characters blanked, cut at a character's end."""
    text = text[:limit_bytes]
    encoded = text.encode() if text.isprintable() else text.translate(_CONTROLS).encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded
    return encoded[:limit_bytes].decode("utf-8", "ignore").encode()


@lru_cache(maxsize=16)  # all dead letters of a run have the same time
def _iso(time_ms: int) -> bytes:
    seconds, milliseconds = divmod(time_ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _integer(value: bytes | None) -> int | None:
    return int(value) if value is not None and len(value) <= 20 and value.isdigit() else None
