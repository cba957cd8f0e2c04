"""A group's settled offsets, as an onlooker reads them."""

from __future__ import annotations

from confluent_kafka import KafkaException, TopicPartition

from streamer.config.fields import KafkaConfig
from streamer.kafka.clients import make_consumer, reader_properties
from streamer.kafka.coordinator import until_loaded

LOOK_S = 3.0


def settled_offsets(
    kafka: KafkaConfig, group: str, partitions: list[TopicPartition], timeout_s: float
) -> list[TopicPartition]:
    """The offsets that are settled, at once although a transaction that would settle others is open on them.

    By a consumer, which joins nothing: an admin client that is told NOT_COORDINATOR, as by a new cluster or when a
    coordinator moves, takes the process down (librdkafka 2.16.1, confluentinc/librdkafka#5315). Raises KafkaException,
    for a single partition's error too.
    """

    def ask(left_s: float) -> list[TopicPartition]:
        found = consumer.committed(partitions, timeout=left_s)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return found

    consumer = make_consumer({**reader_properties(kafka), "group.id": group, "isolation.level": "read_uncommitted"})
    try:
        return until_loaded(ask, timeout_s)
    finally:
        consumer.close()


def held_by_transaction(kafka: KafkaConfig, group: str, partitions: list[TopicPartition]) -> bool:
    """Whether offsets are there for an onlooker; of use where a reader that waits for open transactions got none."""
    try:
        settled_offsets(kafka, group, partitions, LOOK_S)
    except KafkaException:
        return False
    return True
