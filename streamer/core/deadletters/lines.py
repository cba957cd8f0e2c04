"""Records as JSON lines, byte for byte: what `export` writes, `import` reads and an editor may change.

Bytes are a string where they are UTF-8, and `{"base64": "…"}` where they are not; null is null.
"""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec

from streamer.core.deadletters.letter import Place, timestamp_ms
from streamer.core.record import Headers, Record


class Base64(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Bytes that are not UTF-8."""

    base64: str


Wire = str | Base64 | None


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record on one line. `timestamp_ms` is null where the record has none."""

    topic: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    partition: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None
    key: Wire
    headers: list[tuple[str, Wire]]
    value: Wire

    @property
    def place(self) -> Place:
        """Where the record lies, or lay."""
        return Place(self.topic, self.partition, self.offset)


_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


def line_of(record: Record, headers: Headers) -> bytes:
    """A record as a line, without its end."""
    time_ms = timestamp_ms(record)
    return _encode(
        Line(
            record.topic(),
            record.partition(),
            record.offset(),
            time_ms if time_ms >= 0 else None,
            wire(record.key()),
            [(name, wire(value)) for name, value in headers],
            wire(record.value()),
        )
    )


def read_line(line: bytes) -> Line:
    """A line as it was written. Raises ValueError, with a message that does not quote the line."""
    try:
        read = _decode(line)
        for wire in (read.key, read.value, *(value for _, value in read.headers)):
            to_bytes(wire)
    except (msgspec.ValidationError, _NotBase64Error) as error:
        raise ValueError(str(error)) from None  # msgspec names the field and the type, never the content
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("not a JSON object in UTF-8") from None
    return read


def to_bytes(wire: Wire) -> bytes | None:
    """The bytes that a field stands for. Raises ValueError for what is not base64."""
    if isinstance(wire, Base64):
        try:
            return base64.b64decode(wire.base64, validate=True)
        except ValueError:
            raise _NotBase64Error("a base64 field does not hold base64") from None
    return None if wire is None else wire.encode()


def headers_from(line: Line) -> Headers:
    """The headers of a line."""
    return [(name, to_bytes(value)) for name, value in line.headers]


def wire(value: bytes | None) -> Wire:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return Base64(base64.b64encode(value).decode())


class _NotBase64Error(ValueError):
    pass
