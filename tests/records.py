"""A Kafka record for tests: what `streamer.core.record.Record` asks, with values in place of a broker."""

from __future__ import annotations

from streamer.core.record import Headers

CREATE_TIME = 1
NO_TIMESTAMP = 0


class FakeRecord:
    """A record that answers as a Kafka client's message does. `timestamp_ms=None` means that it has no timestamp."""

    __slots__ = (
        "_headers",
        "_key",
        "_offset",
        "_partition",
        "_timestamp",
        "_topic",
        "_value",
    )

    def __init__(
        self,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        topic: str = "in",
        partition: int = 0,
        offset: int = 0,
        timestamp_ms: int | None = 1_700_000_000_000,
    ) -> None:
        self._value = value
        self._key = key
        self._headers = headers
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._timestamp = (NO_TIMESTAMP, -1) if timestamp_ms is None else (CREATE_TIME, timestamp_ms)

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return self._timestamp
