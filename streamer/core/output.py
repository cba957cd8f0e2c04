"""What the sink produces: one record of an output topic, and its size on the wire."""

from __future__ import annotations

from streamer.core.record import Headers

# topic, partition (-1: the producer's choice), key, value, headers
Output = tuple[str, int, bytes | None, bytes | None, Headers]

# Upper bounds of Kafka's record format v2: a batch's header (61), a record's fixed part, and the two lengths of a
# header. A topic's max.message.bytes counts all of it. https://kafka.apache.org/documentation/#messageformat
RECORD_BYTES = 100
HEADER_BYTES = 10


def headers_size_bytes(headers: Headers) -> int:
    """At most so many bytes do the headers take in a record."""
    size = HEADER_BYTES * len(headers)
    for name, value in headers:
        size += len(name) if name.isascii() else len(name.encode())
        if value:
            size += len(value)
    return size


def size_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """At most so many bytes does a record take, in a batch of its own and uncompressed."""
    return RECORD_BYTES + len(key or b"") + len(value or b"") + headers_size_bytes(headers)
