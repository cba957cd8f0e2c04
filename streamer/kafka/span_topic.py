"""The topic that spans go to, or the one for reports of what becomes of us, by a producer of its own: telemetry shares
nothing with the results' transactions."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from streamer.config.fields import KafkaConfig
from streamer.kafka.clients import make_producer, writer_properties
from streamer.kafka.errors import error_of

MESSAGE_TIMEOUT_MS = 10_000
QUEUE_KB = 16_384

log = logging.getLogger(__name__)


class SpanTopic:
    """Writes messages as far as there is room; what the brokers do not take within 10 s is dropped by the client, and
    said in the log."""

    def __init__(self, kafka: KafkaConfig, topic: str) -> None:
        properties = {**writer_properties(kafka), "message.timeout.ms": MESSAGE_TIMEOUT_MS}
        properties["queue.buffering.max.kbytes"] = QUEUE_KB
        self._producer = make_producer(properties)
        self._topic = topic

    def send(self, message: bytes, key: bytes | None = None) -> bool:
        """Queue one message; False when there is no room for it."""
        try:
            self._producer.produce(self._topic, message, key, on_delivery=self._delivered)
        except BufferError:
            self._producer.poll(0)
            return False
        except KafkaException as error:
            self._delivered(error_of(error))
            self._producer.poll(0)
            return False
        self._producer.poll(0)
        return True

    def _delivered(self, error: KafkaError | None, _: Any = None) -> None:
        """One line a minute is written of these, with how many there were."""
        if error is not None:
            log.warning(
                "the brokers do not take what is written to this topic; see `streamer topics check`, which says whether"
                " it exists: nobody creates it by writing",
                extra={"data": {"topic": self._topic, "error": error.name()}},
            )

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued for at most `timeout_s`, drop the rest."""
        self._producer.flush(timeout_s)
        self._producer.purge()
        self._producer.close()
