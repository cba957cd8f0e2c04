"""Fill topics: an idempotent producer that counts its deliveries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import TracebackType

from confluent_kafka import KafkaError, KafkaException, Message

from streamer.config.fields import KafkaConfig
from streamer.core.record import Headers
from streamer.kafka.clients import make_producer, produce, writer_properties
from streamer.kafka.errors import error_of


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What became of the records written: acknowledged, failed by librdkafka's error name, or still under way."""

    delivered: int
    failed: dict[str, int]
    pending: int


class Writer:
    """Writes records in bulk; blocks while the client's queue is full."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._producer = make_producer(writer_properties(kafka))
        self._written = 0
        self._failed: Counter[str] = Counter()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._producer.purge()
        self._producer.close()

    def write(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        timestamp_ms: int = 0,
    ) -> None:
        """Queue one record. Partition -1 is chosen by murmur2 of the key, at random without one; timestamp 0 is now."""
        options = {"headers": [*headers] if headers else [], "timestamp": timestamp_ms, "on_delivery": self._count}
        try:
            produce(self._producer, topic, value, key, partition=partition, **options)
        except KafkaException as error:  # refused before it was queued, e.g. larger than message.max.bytes
            self._failed[error_of(error).name()] += 1
        self._written += 1
        if self._written % 1000 == 0:
            self._producer.poll(0)

    def flush(self, timeout_s: float = 60) -> Deliveries:
        """Wait until every record is acknowledged or failed, up to `timeout_s`."""
        self._producer.flush(timeout_s)
        return self.deliveries()

    def deliveries(self) -> Deliveries:
        """How things stand now."""
        pending = len(self._producer)
        return Deliveries(self._written - pending - self._failed.total(), dict(self._failed), pending)

    def _count(self, error: KafkaError | None, _message: Message) -> None:
        """Called for failures only (`delivery.report.only.error`)."""
        if error is not None:
            self._failed[error.name()] += 1
