"""Events that a caller in the same process gives, as the records that a pipeline takes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence

import msgspec

from streamer.core.pipeline.protocol import Taken
from streamer.core.record import Headers, MemoryRecord, MicroBatch, Segment, TopicPartition

EPOCH = 1


class RawEvent(msgspec.Struct, frozen=True):
    """An input record as a producer might write it: any bytes, with headers. A value of None is a tombstone."""

    value: bytes | None
    headers: Mapping[str, bytes | str] = {}
    key: bytes | None = None
    timestamp_ms: int | None = None


def record_of(event: object, topic: str, offset: int) -> MemoryRecord:
    """The event as a record: a text, a dict (the JSON of an event), bytes as a producer wrote them, or a `RawEvent`.
    Raises TypeError for anything else, and for a dict that is no JSON."""
    raw = event if isinstance(event, RawEvent) else RawEvent(_value(event, offset))
    headers: Headers = [
        (name, value.encode() if isinstance(value, str) else value) for name, value in raw.headers.items()
    ]
    timestamp_ms = int(time.time() * 1000) if raw.timestamp_ms is None else raw.timestamp_ms
    return MemoryRecord(topic, 0, offset, raw.key, raw.value, headers, timestamp_ms)


def _value(event: object, offset: int) -> bytes:
    if isinstance(event, bytes):
        return event
    if isinstance(event, str | dict):
        given = {"text": event} if isinstance(event, str) else event
        try:
            # Half a surrogate pair is no UTF-8: its dead letter says so.
            return json.dumps(given, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"event {offset} can't be written as JSON: {error}") from None
    raise TypeError(
        f"event {offset} is of type {type(event).__name__}: give a text, a dict with a text, or the bytes of a record"
    )


def taken(records: Sequence[MemoryRecord], partition: TopicPartition, number: int) -> Taken:
    """The micro-batch of this number, as a source posts it."""
    size_bytes = sum(map(len, records))
    segment = Segment(*partition, EPOCH, list(records), size_bytes=size_bytes)
    ids = secrets.randbits(192) | 1 << 191 | 1
    return Taken(MicroBatch(number, [segment], ids >> 64, ids & (1 << 64) - 1, time.time_ns(), time.monotonic()))
