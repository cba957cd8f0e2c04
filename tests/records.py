"""A Kafka record for tests: what `streamer.core.record.Record` asks, with values in place of a broker."""

from __future__ import annotations

from streamer.core.record import Headers, MemoryRecord

NO_TIMESTAMP = 0


class FakeRecord(MemoryRecord):
    """A record with defaults. `timestamp_ms=None` means that it has no timestamp."""

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
        super().__init__(topic, partition, offset, key, value, headers, -1 if timestamp_ms is None else timestamp_ms)
        self._is_timed = timestamp_ms is not None

    def timestamp(self) -> tuple[int, int]:
        return super().timestamp() if self._is_timed else (NO_TIMESTAMP, -1)
