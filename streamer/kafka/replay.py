"""What the dead-letter tools read and write through: a log of topics, and a copier whose commits are transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamer.config_fields import KafkaConfig
from streamer.kafka.scan import Scan
from streamer.kafka.topics import TopicInfo, connect, describe


class TopicLog:
    """The topics of a cluster. Raises DependencyError when it does not answer."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._admin = connect(kafka)

    def scan(
        self, topic: str, *, starts: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
    ) -> Scan:
        """Open a pass over a topic."""
        return Scan(self._kafka, topic, starts=starts, ends=ends)

    def describe(self, topics: Sequence[str]) -> dict[str, TopicInfo | None]:
        """Each topic as it is, None where it does not exist."""
        return describe(self._admin, self._kafka, topics)
