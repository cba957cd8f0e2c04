"""The topic that spans go to, or the one for reports of what becomes of us, by a producer of its own: telemetry shares
nothing with the results' transactions."""

from __future__ import annotations

from confluent_kafka import KafkaException

from streamer.config.fields import KafkaConfig
from streamer.kafka.clients import make_producer, writer_properties

MESSAGE_TIMEOUT_MS = 10_000
QUEUE_KB = 16_384


class SpanTopic:
    """Writes messages as far as there is room; what the brokers do not take within 10 s is dropped by the client."""

    def __init__(self, kafka: KafkaConfig, topic: str) -> None:
        properties = {**writer_properties(kafka), "message.timeout.ms": MESSAGE_TIMEOUT_MS}
        properties["queue.buffering.max.kbytes"] = QUEUE_KB
        self._producer = make_producer(properties)
        self._topic = topic

    def send(self, message: bytes, key: bytes | None = None) -> bool:
        """Queue one message; False when there is no room for it."""
        try:
            self._producer.produce(self._topic, message, key)
        except (BufferError, KafkaException):
            self._producer.poll(0)
            return False
        self._producer.poll(0)
        return True

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued for at most `timeout_s`, drop the rest."""
        self._producer.flush(timeout_s)
        self._producer.purge()
        self._producer.close()
