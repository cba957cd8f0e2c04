"""The W3C trace context of a record: read strictly from a header, written into a result's header.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re

from streamer.core.headers import TRACEPARENT
from streamer.core.record import Headers, MicroBatch, TraceParent

# Version 00 is exactly this; a later version may add fields behind another dash.
_PATTERN = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LENGTH = 55
_MAX_LENGTH = 512

_MASK64 = (1 << 64) - 1


def parse(value: bytes) -> TraceParent | None:
    """The context that a `traceparent` header holds, or None when the header is not a valid one. Never raises."""
    if len(value) > _MAX_LENGTH:
        return None
    match = _PATTERN.match(value)
    if match is None:
        return None
    version, trace, span, flags = match.groups()
    if version == b"ff" or (len(value) > _LENGTH and (version == b"00" or value[_LENGTH : _LENGTH + 1] != b"-")):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


def only_trace(headers: Headers) -> bool:
    """Whether a record has a trace context and no other header, the common case where everything is traced."""
    return len(headers) == 1 and headers[0][0] == TRACEPARENT


def render(trace_id: int, span_id: int, sampled: bool = True) -> bytes:
    """A `traceparent` header, version 00."""
    return b"00-%032x-%016x-%02x" % (trace_id, span_id, sampled)


def record_span_id(batch_span_id: int, position: int) -> int:
    """The id of the span of a micro-batch's `position`-th sampled record: 64 bits, never 0.

    The finaliser of splitmix64 (Steele, Lea, Flood 2014), a bijection: the ids of one micro-batch differ.
    """
    mixed = (batch_span_id + (position + 1) * 0x9E3779B97F4A7C15) & _MASK64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK64
    return (mixed ^ (mixed >> 31)) or 1


def mark_spans(batch: MicroBatch, limit: int) -> tuple[int, int]:
    """Give the first `limit` sampled records of a decoded micro-batch a span each, in `Segment.spans`.

    Returns how many got one and how many sampled records did not.
    """
    sampled = 0
    for segment in batch.segments:
        if segment.traces is None:
            continue
        spans = [0] * len(segment.records)
        for index, trace in enumerate(segment.traces):
            if trace is not None and trace.sampled:
                if sampled < limit:
                    spans[index] = record_span_id(batch.span_id, sampled)
                sampled += 1
        if any(spans):
            segment.spans = spans
    return min(sampled, limit), max(sampled - limit, 0)
