"""What the brokers say of input topics, apart from what the consumer reads."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from functools import cached_property
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.core.record import TopicPartition
from streamer.kafka.clients import admin_properties, make_admin
from streamer.kafka.errors import MISSING, answer, error_of

REQUEST_S = 10.0


class Ends(NamedTuple):
    """Offsets behind the last record that can be read now, where an open transaction begins, and behind the last."""

    stable: int
    high: int


class ClusterView:
    """Asks from any thread; connects when it is first asked. Raises KafkaException."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka

    @cached_property
    def _admin(self) -> AdminClient:
        return make_admin(admin_properties(self._kafka), on_error=lambda _: None)  # the consumer is told the same

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Ends]:
        """The ends of these partitions."""
        asked = [KafkaPartition(*key) for key in partitions]
        stable = self._latest(asked, IsolationLevel.READ_COMMITTED)
        high = self._latest(asked, IsolationLevel.READ_UNCOMMITTED)
        return {key: Ends(stable[key], high[key]) for key in stable}

    def missing(self, topics: Iterable[str]) -> frozenset[str]:
        """Those of these topics that are not there."""
        wanted = sorted(topics)
        if not wanted:
            return frozenset()
        described = self._admin.describe_topics(TopicCollection(wanted), request_timeout=REQUEST_S)
        return frozenset(topic for topic in wanted if self._is_missing(described[topic]))

    @staticmethod
    def _is_missing(described: Future[Any]) -> bool:
        try:
            answer(described, REQUEST_S)
        except KafkaException as error:
            if error_of(error).code() in MISSING:
                return True
            raise
        return False

    def _latest(self, asked: list[KafkaPartition], isolation: IsolationLevel) -> dict[TopicPartition, int]:
        if not asked:
            return {}
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        futures = self._admin.list_offsets(
            dict.fromkeys(asked, latest), isolation_level=isolation, request_timeout=REQUEST_S
        )
        return {(each.topic, each.partition): answer(future, REQUEST_S).offset for each, future in futures.items()}
