"""A line of a file as a record: one topic, one partition, the line's number as its offset."""

from __future__ import annotations

from streamer.core.record import Headers

TOPIC = "lines"
PARTITION = 0
CREATE_TIME = 1


class Line:
    """Answers as a Kafka message does. `offset` counts lines from 0."""

    __slots__ = ("_number", "_timestamp_ms", "_value")

    def __init__(self, value: bytes, number: int, timestamp_ms: int) -> None:
        self._value = value
        self._number = number
        self._timestamp_ms = timestamp_ms

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return PARTITION

    def offset(self) -> int:
        return self._number

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (CREATE_TIME, self._timestamp_ms)
