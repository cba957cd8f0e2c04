"""Where reading starts: the committed offset, or, where there is none, what the configuration says."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition

from streamer.kafka.patience import Patience


def first_partitions(consumer: Consumer, topics: list[str], patience: Patience) -> frozenset[tuple[str, int]]:
    """The partitions that a group finds when it begins with a topic: for these alone `latest` is their end. What has
    no offset although the group has committed others of its topic came later, and is read from its start.

    To be called before the group is joined. Raises KafkaException.
    """
    found: set[tuple[str, int]] = set()
    for topic in topics:
        metadata = patience.ask(lambda timeout_s, name=topic: consumer.list_topics(name, timeout=timeout_s))  # type: ignore[misc]
        there = [TopicPartition(topic, number) for number in metadata.topics[topic].partitions]
        if not there:
            continue
        committed = patience.committed(consumer, there)
        if all(one.offset < 0 for one in committed):
            found.update((topic, one.partition) for one in there)
    return frozenset(found)


def first_offsets(consumer: Consumer, keys: Iterable[tuple[str, int]], timeout_s: float) -> list[TopicPartition]:
    """The first offsets that are there, of those partitions that there are. Raises KafkaException."""
    found = []
    for topic, number in sorted(keys):
        if number in consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions:
            low, _ = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout_s)
            found.append(TopicPartition(topic, number, low))
    return found


def start_offsets(
    consumer: Consumer,
    partitions: list[TopicPartition],
    start: str | int,
    first: frozenset[tuple[str, int]],
    patience: Patience,
) -> tuple[list[TopicPartition], list[TopicPartition]]:
    """The partitions with the offsets to read from and their metadata, and those of them that had none committed.

    To be called on the consumer's own thread. With isolation.level read_committed the broker answers only once no
    transaction of an earlier owner is pending on these offsets (KIP-447). `first` is what `first_partitions` found.
    Raises KafkaException, HeldOffsetsError where such a transaction does not end.
    """
    if not partitions:
        return [], []
    starts, fresh = [], []
    for partition in patience.committed(consumer, partitions):
        if partition.offset < 0:
            came_later = start == "latest" and (partition.topic, partition.partition) not in first
            offset = _resolve(consumer, partition, "earliest" if came_later else start, patience)
            partition = TopicPartition(partition.topic, partition.partition, offset)
            fresh.append(partition)
        starts.append(partition)
    return starts, fresh


def _resolve(consumer: Consumer, partition: TopicPartition, start: str | int, patience: Patience) -> int:
    low, high = patience.ask(lambda timeout_s: consumer.get_watermark_offsets(partition, timeout=timeout_s))
    if start == "earliest":
        return low
    if start == "latest":
        return high
    wanted = TopicPartition(partition.topic, partition.partition, int(start))
    offset = patience.ask(lambda timeout_s: consumer.offsets_for_times([wanted], timeout=timeout_s))[0].offset
    return high if offset < 0 else offset
