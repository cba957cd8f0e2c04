"""From records to events: the format is named by headers, never sniffed; what can't be an event becomes a failure.

The fast path is one call of msgspec. Only a record that it refuses is read again, by `diagnosis`, for the cause.
CloudEvents: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Any

import msgspec

from streamer.core.events.diagnosis import MAX_ID_CHARS, diagnose, not_utf8
from streamer.core.events.framed import SchemaName, Schemas, schema_named
from streamer.core.events.record_headers import read_headers
from streamer.core.events.shape import INT64_MIN, MAX_METADATA_BYTES, REFUSED, TOMBSTONE, UINT64_MAX, Shape
from streamer.core.headers import CE_ID, CE_SPECVERSION, CONTENT_TYPE, REPLAY_ID, REPLAY_PIPELINE, TRACEPARENT
from streamer.core.output import headers_size_bytes
from streamer.core.record import BareRecord, Headers, Outcome, Record, Segment, Skipped, TextEvent
from streamer.core.traceparent import only_trace, parse
from streamer.errors import Code, DataFailure

_CONTENT_TYPE_CHARS = len(CONTENT_TYPE)
_MAX_CONTENT_TYPE_BYTES = 256

FOREIGN_REPLAY = Skipped("replay")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is read of a record. A larger value is refused unread; of more headers only the last ones count, so that
    ours, which come last, always do."""

    max_value_bytes: int = 8 * 1024 * 1024
    max_metadata_bytes: int = MAX_METADATA_BYTES
    max_headers: int = 1_000


HEADER_OVERHEAD_BYTES = 250
"""What a header takes in memory beside its bytes, once it is read."""


@dataclass(frozen=True, slots=True)
class Framed:
    """How events are read whose values a schema registry's serializers wrote: what opens them, and the shape of what is
    in them, None for our own format."""

    schemas: Schemas
    shape: Shape | None = None


Reading = Shape | Framed
"""How events are read that are not JSON of our own format."""


class _Format(Enum):
    JSON = auto()
    TEXT = auto()
    CLOUDEVENT = auto()
    OTHER_JSON = auto()


class _CloudEvent(msgspec.Struct):
    """What we read of a structured CloudEvent; `type`, `source` and extensions are the producer's affair."""

    specversion: str = ""
    id: str | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None


class Codec:
    """Decodes the records of one pipeline, whose JSON has a `shape` of its own, or is our event format; with `schemas`
    their values are opened by a schema registry's.
    `bad_traceparents` counts the trace contexts that were not valid."""

    def __init__(
        self,
        pipeline: str,
        limits: Limits = Limits(),
        shape: Shape | None = None,
        schemas: Schemas | None = None,
    ) -> None:
        self.bad_traceparents = 0
        self._pipeline = pipeline.encode()
        self._limits = limits
        self._shape = shape
        self._schemas = schemas
        # The fast path is for events of our own format: a record of another one is larger than it takes.
        self._fast_bytes = limits.max_value_bytes if shape is None and schemas is None else -1
        self._decode_event = msgspec.json.Decoder(TextEvent).decode
        self._decode_cloudevent = msgspec.json.Decoder(_CloudEvent).decode

    def unknown(self, segment: Segment) -> list[SchemaName]:
        """The schemas that have to be learned before the segment is decoded."""
        if self._schemas is None:
            return []
        names: set[bytes | None] = set()
        for record, headers in zip(segment.records, self._read_headers(segment.records)[0], strict=True):
            names.add(schema_named(record.value() or b"", headers))
        wanted = [(segment.topic, name) for name in names if name is not None]
        return [name for name in wanted if not self._schemas.knows(name)]

    def _read_headers(self, records: list[Record]) -> tuple[list[Headers | None], set[int]]:
        """Those of each record, and which can't be read. Such a record may be asked once: from then on it is a
        `BareRecord`, also where it is only decoded later."""
        found, unreadable = read_headers(records)
        if self._schemas is not None:
            unreadable |= {index for index, record in enumerate(records) if type(record) is BareRecord}
        for index in unreadable:
            records[index] = BareRecord(records[index])
        return found, unreadable

    def decode(self, segment: Segment) -> None:
        """Fill the segment's events, outcomes, traces, `open` and `failures` from its records.

        A record whose headers the client can't read is replaced by a `BareRecord`.
        """
        decode_event = self._decode_event
        fast_bytes = self._fast_bytes
        records = segment.records
        events: list[TextEvent | None] = []
        outcomes: list[Outcome | None] = [None] * len(records)
        segment.traces = None
        append = events.append
        found, unreadable = self._read_headers(records)
        for record, headers in zip(records, found, strict=True):
            if unreadable and len(events) in unreadable:
                index = len(events)
                append(None)
                outcomes[index] = DataFailure(
                    Code.DECODE_UTF8,
                    "A header's name is not UTF-8: rename it. The headers can't be kept.",
                )
                continue
            value = record.value()
            if headers and only_trace(headers):
                self._note_trace(headers[0][1], segment, len(events))
                headers = None
            if headers:
                segment.named = True
                segment.size_bytes += headers_size_bytes(headers) + len(headers) * HEADER_OVERHEAD_BYTES
            if headers or not value or len(value) > fast_bytes:
                outcome = self._decode_slowly(value, headers, segment, len(events))
            else:
                try:
                    value.isascii() or value.decode()  # msgspec skips over unknown fields without checking UTF-8
                    event = decode_event(value)
                except REFUSED:
                    outcome = diagnose(value)
                else:
                    if event.metadata is None and event.id.__class__ is not int:
                        append(event)
                        continue
                    outcome = self._checked(event)
            if isinstance(outcome, TextEvent):
                append(outcome)
            else:
                outcomes[len(events)] = outcome
                append(None)
        segment.events = events
        segment.outcomes = outcomes
        segment.open = outcomes.count(None)
        if segment.open != len(outcomes):
            segment.failures = sum(isinstance(outcome, DataFailure) for outcome in outcomes)

    def _decode_slowly(
        self, value: bytes | None, headers: Headers | None, segment: Segment, index: int
    ) -> TextEvent | DataFailure | Skipped:
        """Decode what is not for the fast path; note its trace context."""
        named: dict[str, bytes | None] = {}
        content_type: bytes | None = None
        if headers:
            if len(headers) > self._limits.max_headers:
                headers = headers[-self._limits.max_headers :]
            named = dict(headers)  # of a repeated name the last one counts
            for name, header in headers:
                if len(name) == _CONTENT_TYPE_CHARS and name.lower() == CONTENT_TYPE:
                    content_type = header
            replayed_for = named.get(REPLAY_PIPELINE)
            if replayed_for is not None and replayed_for != self._pipeline:
                return FOREIGN_REPLAY
        if value is None:
            return TOMBSTONE
        self._note_trace(named.get(TRACEPARENT), segment, index)
        if not value:
            return DataFailure(Code.DECODE_EMPTY, 'The value has 0 bytes: send {"text": "..."}.')
        if len(value) > self._limits.max_value_bytes:
            return DataFailure(
                Code.VALIDATE_TEXT,
                f"The value has {len(value)} bytes, the limit is {self._limits.max_value_bytes}: split the text.",
            )
        if CE_ID in named or REPLAY_ID in named:
            failure = _check_header_ids(named)
            if failure is not None:
                return failure
        if self._schemas is not None:
            opened = self._schemas.open(value, headers, segment.topic)
            return opened if isinstance(opened, DataFailure) else self._json(opened)
        form = self._form(content_type) if content_type else _Format.JSON
        if form is None:
            return self._unknown_content_type("The content-type header")
        if form is _Format.CLOUDEVENT:
            return self._structured(value)
        if CE_SPECVERSION in named and named[CE_SPECVERSION] != b"1.0":
            return DataFailure(
                Code.DECODE_CLOUDEVENT,
                'ce_specversion is not "1.0", the only version that is read.',
            )
        return self._text(value) if form is _Format.TEXT else self._json(value)

    def _note_trace(self, context: bytes | None, segment: Segment, index: int) -> None:
        if context is None:
            return
        trace = parse(context)
        if trace is None:
            self.bad_traceparents += 1
            return
        if segment.traces is None:
            segment.traces = [None] * len(segment.records)
        segment.traces[index] = trace

    def _json(self, value: bytes, where: str = "$") -> TextEvent | DataFailure | Skipped:
        if self._shape is not None:
            return self._shape.read(value, where)
        try:
            value.isascii() or value.decode()
            event = self._decode_event(value)
        except REFUSED:
            return diagnose(value, where)
        return self._checked(event, where)

    def _text(self, value: bytes) -> TextEvent | DataFailure:
        try:
            return TextEvent(value.decode())
        except UnicodeDecodeError as error:
            return not_utf8(error.start)

    def _structured(self, value: bytes) -> TextEvent | DataFailure | Skipped:
        """Decode a structured CloudEvent: its `data` (or `data_base64`) by its `datacontenttype`; its `id` is the
        event's."""
        try:
            value.isascii() or value.decode()
            envelope = self._decode_cloudevent(value)
        except REFUSED:
            failure = diagnose(value)
            if failure.code.stage == "decode":
                return failure
            return _bad_cloudevent("not an object, or one of its strings is not a string")
        if envelope.specversion != "1.0":
            return _bad_cloudevent('specversion is not "1.0"')
        if envelope.id is not None and not 1 <= len(envelope.id) <= MAX_ID_CHARS:
            return DataFailure(
                Code.VALIDATE_ID,
                f"$.id is not a string of 1 to {MAX_ID_CHARS} characters.",
            )
        content_type = envelope.datacontenttype
        form = self._form(content_type.encode()) if content_type else _Format.JSON
        if form is None or form is _Format.CLOUDEVENT:
            return self._unknown_content_type("$.datacontenttype")
        data = bytes(envelope.data)
        if bool(data) == (envelope.data_base64 is not None):
            return _bad_cloudevent("it needs one of data and data_base64")
        event: TextEvent | DataFailure | Skipped
        if envelope.data_base64 is not None:
            try:
                data = base64.b64decode(envelope.data_base64, validate=True)
            except (binascii.Error, ValueError):
                return _bad_cloudevent("data_base64 is not base64")
            if not data:
                return DataFailure(Code.DECODE_EMPTY, "$.data_base64 holds 0 bytes.")
            event = self._text(data) if form is _Format.TEXT else self._json(data, "$.data_base64")
        elif form is _Format.TEXT:
            event = _text_data(data)
        else:
            event = self._json(data, "$.data")
        if envelope.id is not None and isinstance(event, TextEvent):
            return msgspec.structs.replace(event, id=envelope.id)
        return event

    def _form(self, content_type: bytes) -> _Format | None:
        """What a content type names; where events have a shape of their own, any JSON and nothing else."""
        form = _format(content_type)
        if self._shape is None:
            return None if form is _Format.OTHER_JSON else form
        return {_Format.TEXT: None, _Format.OTHER_JSON: _Format.JSON}.get(form, form) if form else None

    def _unknown_content_type(self, where: str) -> DataFailure:
        fault = "is not application/json, text/plain or application/cloudevents+json, in UTF-8"
        if self._shape is not None:
            fault = f"does not name JSON in UTF-8, of which {self._shape.text.name} is to be read (text_field)"
        return DataFailure(Code.DECODE_CONTENT_TYPE, f"{where} {fault}.")

    def _checked(self, event: TextEvent, where: str = "$") -> TextEvent | DataFailure:
        """What the type can't say: an integer id has 64 bits, metadata is a small object, null is absent."""
        if event.id.__class__ is int and not INT64_MIN <= event.id <= UINT64_MAX:
            return DataFailure(
                Code.VALIDATE_ID,
                f"{where}.id is an integer of more than 64 bits: send it as a string.",
            )
        if event.metadata is None:
            return event
        metadata = bytes(event.metadata)
        if metadata == b"null":
            return msgspec.structs.replace(event, metadata=None)
        if not metadata.startswith(b"{"):
            return DataFailure(Code.VALIDATE_METADATA, f"{where}.metadata is not a JSON object.")
        if len(metadata) > self._limits.max_metadata_bytes:
            return DataFailure(
                Code.VALIDATE_METADATA,
                f"{where}.metadata has {len(metadata)} bytes, the limit is {self._limits.max_metadata_bytes}.",
            )
        return event


def event_id(record: Record, event: TextEvent | None) -> str:
    """The id that a result carries: that of a replayed record, the CloudEvent's, the body's, or the record's place."""
    headers = record.headers()
    if headers:
        named = dict(headers)
        given = named.get(REPLAY_ID) or named.get(CE_ID)
        if given:
            return given.decode("utf-8", "replace")
    if event is not None and event.id is not None:
        return str(event.id)
    return f"{record.topic()}/{record.partition()}/{record.offset()}"


@lru_cache(maxsize=64)
def _format_of(content_type: bytes) -> _Format | None:
    media_type, *parameters = content_type.decode("latin-1").lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in (
            "utf-8",
            "utf8",
        ):
            return None
    media_type = media_type.strip()
    return {
        "application/json": _Format.JSON,
        "text/plain": _Format.TEXT,
        "application/cloudevents+json": _Format.CLOUDEVENT,
    }.get(media_type, _Format.OTHER_JSON if media_type.endswith("+json") else None)


def _format(content_type: bytes) -> _Format | None:
    """The format that a content type names, None when it is not one of ours. Long ones are not kept in memory."""
    return _format_of(content_type) if len(content_type) <= _MAX_CONTENT_TYPE_BYTES else None


def _check_header_ids(named: dict[str, Any]) -> DataFailure | None:
    for name in (REPLAY_ID, CE_ID):
        given = named.get(name)
        if given is None:
            continue
        try:
            length = len(given.decode())
        except UnicodeDecodeError:
            return DataFailure(Code.VALIDATE_ID, f"The {name} header is not UTF-8.")
        if not 1 <= length <= MAX_ID_CHARS:
            return DataFailure(
                Code.VALIDATE_ID,
                f"The {name} header does not have 1 to {MAX_ID_CHARS} characters.",
            )
    return None


def _text_data(data: bytes) -> TextEvent | DataFailure:
    try:
        text = msgspec.json.decode(data, type=str)
    except msgspec.MsgspecError:
        return _bad_cloudevent("datacontenttype says text/plain and data is not a string")
    if not text:
        return DataFailure(
            Code.VALIDATE_EMPTY_TEXT,
            "$.data is an empty string: white space would be valid.",
        )
    return TextEvent(text)


def _bad_cloudevent(what: str) -> DataFailure:
    return DataFailure(Code.DECODE_CLOUDEVENT, f"Not a CloudEvent that can be read: {what}.")
