"""Values that the serializers of a schema registry wrote: what names their schema, and the port to what opens them.

The schema's id stands before the data (a zero byte, then 4 bytes), or in a header that replaces it:
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

from typing import Final, Protocol

from streamer.core.record import Headers
from streamer.errors import Code, DataFailure

SCHEMA_HEADER: Final = "__value_schema_id"
FRAME_BYTES: Final = 5
_GUID_BYTES: Final = 17  # a one, then the GUID of a schema

NOT_FRAMED: Final = DataFailure(
    Code.DECODE_SCHEMA,
    "The value names no schema: it has neither a zero byte and a schema's id before its data nor the header"
    f" {SCHEMA_HEADER}. Have the producer use a serializer of the schema registry.",
)


SchemaName = tuple[str, bytes]
"""A topic, and what names the schema in its records: an id may mean something else for another topic."""


class Schemas(Protocol):
    """Opens values by their schemas. Nothing here waits: a schema that is not known yet is to be learned first."""

    def knows(self, name: SchemaName) -> bool:
        """Whether this schema is known, or known not to be there."""
        ...

    def open(self, value: bytes, headers: Headers | None, topic: str) -> bytes | DataFailure:
        """The value as JSON, or why it can't be opened; its schema is known."""
        ...


class Seal(Protocol):
    """Writes results in a format of a schema registry. `header` names their schema, where their values do not."""

    @property
    def header(self) -> tuple[str, bytes] | None: ...

    def __call__(self, value: bytes) -> bytes:
        """What is written, of a result's JSON. Raises ValueError where that has no form in this format."""
        ...


def is_framed(value: bytes) -> bool:
    """Whether it looks like what serializers of a schema registry write: a zero, a schema's id in 4 bytes, the data."""
    return value.startswith(b"\0") and len(value) > FRAME_BYTES


def schema_named(value: bytes, headers: Headers | None) -> bytes | None:
    """What names the schema of a value, as it is written there; None where nothing does. What may follow in a header,
    such as the place of a Protobuf message, is no part of the name: a producer could make any number of names."""
    for name, given in headers or ():
        if name == SCHEMA_HEADER and given:
            return given[: FRAME_BYTES if given.startswith(b"\0") else _GUID_BYTES]
    return value[:FRAME_BYTES] if is_framed(value) else None


def data_of(value: bytes, headers: Headers | None) -> bytes:
    """The value without what names its schema."""
    in_header = any(name == SCHEMA_HEADER and given for name, given in headers or ())
    return value if in_header else value[FRAME_BYTES:]
