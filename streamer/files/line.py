"""A row of a file as a record: one topic, one partition, its number among all rows as its offset."""

from __future__ import annotations

from streamer.core.record import Headers
from streamer.files.rows import Row

TOPIC = "lines"
PARTITION = 0
CREATE_TIME = 1


class Line:
    """Answers as a Kafka message does. `offset` counts rows from 0, over all files."""

    __slots__ = ("_number", "_timestamp_ms", "row")

    def __init__(self, row: Row, number: int, timestamp_ms: int) -> None:
        self.row = row
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
        return self.row.value or b""

    def headers(self) -> Headers | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (CREATE_TIME, self._timestamp_ms)
