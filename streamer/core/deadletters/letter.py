"""A dead letter as it lies in its topic: the record, and what its headers say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streamer.core.deadletters.families import Reason
from streamer.core.events.codec import Reading
from streamer.core.headers import TRACEPARENT
from streamer.core.record import Headers, Record, TraceParent
from streamer.core.traceparent import parse


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of a dead-letter topic. `headers` is None when the client can't read them; `timestamp_ms` is when it
    was written there, -1 when the record does not say. `reading` says how the pipeline that gave it up reads events,
    None for our own format."""

    record: Record
    headers: Headers | None
    reason: Reason
    reading: Reading | None = None

    @property
    def place(self) -> Place:
        """Where it lies."""
        return Place(self.record.topic(), self.record.partition(), self.record.offset())

    @property
    def timestamp_ms(self) -> int:
        """See the class."""
        return timestamp_ms(self.record)

    @property
    def origin(self) -> str:
        """Where it came from, as far as its headers tell."""
        reason = self.reason
        parts = (reason.topic, reason.partition, reason.offset)
        return "/".join("?" if part is None else str(part) for part in parts)


def trace_parent(letter: DeadLetter) -> TraceParent | None:
    """The producer's context."""
    value = dict(letter.headers or ()).get(TRACEPARENT)
    return parse(value) if value else None


def trace_id(letter: DeadLetter) -> str | None:
    """The producer's trace, in hexadecimal."""
    trace = trace_parent(letter)
    return f"{trace.trace_id:032x}" if trace else None


def timestamp_ms(record: Record) -> int:
    """When a record was written, in milliseconds since the epoch; -1 when it does not say."""
    kind, time_ms = record.timestamp()
    return time_ms if kind else -1
