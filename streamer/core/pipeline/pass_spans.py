"""What a worker tells of a forward batch for its span, and of the spans that the model's own code made."""

from __future__ import annotations

import msgspec


class Forwarded(msgspec.Struct, frozen=True):
    """A pass of a forward batch, for its span. `parent` and `links` are the ids of a trace and a span (16 and 8 bytes),
    those of the micro-batches that it served. `tokens` are those of the texts, `output_tokens` what was generated.
    `error` is the class of the exception that it raised."""

    parent: bytes
    span_id: bytes
    links: list[bytes]
    start_ns: int
    end_ns: int
    records: int
    tokens: int
    output_tokens: int = 0
    error: str = ""


class CodeSpans(msgspec.Struct, frozen=True):
    """So many spans that the model's own code made, as an OTLP request."""

    message: bytes
    spans: int
