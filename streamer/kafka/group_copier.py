"""Commits an offset of a group, and records beside it, for somebody who is no member of it.

A broker refuses that of a consumer while the group has members, and takes it in a transaction: there clients that knew
no generations had to be served. It is safe where no member settles offsets of that partition, as of one that is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.config.fields import KafkaConfig
from streamer.core.output import Output
from streamer.core.pipeline.attempts import Mark
from streamer.core.record import TopicPartition
from streamer.kafka.clients import MESSAGE_BYTES, make_consumer, reader_properties
from streamer.kafka.errors import start_error
from streamer.kafka.replay import TransactionalCopier
from streamer.kafka.settled import settled_offsets

REQUEST_S = 10.0


class GroupCopier(TransactionalCopier):
    """Under the transactional id `streamer.dlq.{group}`: of two processes the later one ends the earlier one's."""

    def __init__(self, kafka: KafkaConfig, group: str, limit_bytes: int) -> None:
        super().__init__(kafka, group, [limit_bytes])
        consumer = make_consumer({**reader_properties(kafka), "group.id": group})
        self._no_member = consumer.consumer_group_metadata()
        consumer.close()
        self._offsets: list[KafkaPartition] = []

    def settle(self, outputs: Sequence[Output], partition: TopicPartition, mark: Mark) -> None:
        """The records and the offset in one transaction. Raises as `commit` does."""
        self._offsets = [KafkaPartition(*partition, *mark)]
        self.commit(outputs)

    def _produce(self, outputs: Sequence[Output]) -> None:
        super()._produce(outputs)
        self._retry(lambda: self._producer.send_offsets_to_transaction(self._offsets, self._no_member, REQUEST_S))


class LoadCopier(GroupCopier):
    """Writes what `streamer load` loads and how far it is, both in one transaction, under a transactional id of the
    group's name: of two loads of one job the later one ends the earlier one's."""

    prefix = ""
    taken_over = (
        "another `streamer load` of this job ({}) runs now; what this one loaded stays loaded. Let the other one end"
    )


class Groups:
    """The groups of a cluster, as an onlooker sees them. Raises DependencyError or ConfigurationError."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka

    def committed(self, group: str, partition: TopicPartition) -> Mark:
        """The offset that is settled, and its metadata."""
        try:
            (found,) = settled_offsets(self._kafka, group, [KafkaPartition(*partition)], REQUEST_S)
        except KafkaException as error:
            address = self._kafka.bootstrap_servers
            raise start_error(error, address=address, operation="Describe", resource=f"group {group}") from None
        return found.offset, found.metadata or ""

    @contextmanager
    def open(self, group: str, limit_bytes: int | None) -> Iterator[GroupCopier]:
        """A copier for this group, with records of at most this size."""
        copier = GroupCopier(self._kafka, group, limit_bytes or MESSAGE_BYTES)
        try:
            yield copier
        finally:
            copier.close()
