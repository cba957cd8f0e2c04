"""Writes what the app says; a snapshot only when all that was said before it is on the topic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from streamer.config.fields import KafkaConfig
from streamer.core.record import Headers
from streamer.kafka.writer import Writer

FLUSH_S: Final = 20.0


class Said(NamedTuple):
    """A record to write, encoded when it was true."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = []


class Publisher:
    """Blocks; one thread at a time calls it."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._writer: Writer | None = None

    def publish(self, records: Sequence[Said], snapshots: Sequence[Said] = ()) -> bool:
        """Whether all of it was acknowledged. After a failure write the same again: keys make that harmless."""
        return self._write(records) and self._write(snapshots)

    def close(self) -> None:
        """Drop what is not acknowledged."""
        if self._writer is not None:
            self._writer.__exit__(RuntimeError, None, None)
            self._writer = None

    def _write(self, records: Iterable[Said]) -> bool:
        if not records:
            return True
        writer = self._writer = self._writer or Writer(self._kafka)
        for topic, key, value, headers in records:
            writer.write(topic, value, key=key, headers=headers)
        deliveries = writer.flush(FLUSH_S)
        if deliveries.pending or deliveries.failed:
            self.close()  # the next producer knows nothing of these
            return False
        return True
