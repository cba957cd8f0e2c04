"""The topics of the health app: what it reads and writes, made where they are missing, and where reading begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.core.health.memory import assembled
from streamer.core.health.words import FeedbackWord, PartWord, SnapshotWord, StateWord, decode
from streamer.core.record import TopicPartition
from streamer.errors import ConfigurationError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect, create_topics, describe


def make_topics(kafka: KafkaConfig, reports: str, own: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Create those of the app's `own` topics, each with its settings, that are missing, and name them. Raises
    ConfigurationError where there is no topic of reports, or a right is missing."""
    admin = connect(kafka)
    infos = describe(admin, kafka, [reports, *own])
    if infos[reports] is None:
        raise ConfigurationError(
            f"telemetry.reports: there is no topic {reports} at {kafka.bootstrap_servers}; run `streamer topics"
            " create`, or name the topic that the pipelines write to"
        )
    new = [NewTopic(name, -1, -1, config=dict(settings)) for name, settings in own.items() if infos[name] is None]
    return create_topics(admin, kafka, new)


class Places:
    """Where the partitions of some topics begin and end now. Raises DependencyError when the cluster does not answer,
    ConfigurationError for a missing topic or right."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._offsets = GroupOffsets(kafka)

    def bounds(self, topics: Iterable[str]) -> dict[TopicPartition, tuple[int, int]]:
        """All partitions, each with its first offset and the one after its last committed record."""
        partitions = self._offsets.partitions(topics)
        firsts, ends = self._offsets.earliest(partitions), self._offsets.ends(partitions)
        return {each: (firsts[each], ends[each]) for each in partitions}

    def since(self, topic: str, time_ms: int) -> dict[TopicPartition, int]:
        """The first offset of each partition that was written then or later; the end where none was."""
        partitions = self._offsets.partitions([topic])
        ends, found = self._offsets.ends(partitions), self._offsets.at_time(partitions, time_ms)
        return {each: min(found.get(each, ends[each]), ends[each]) for each in partitions}


class Known(NamedTuple):
    """The newest snapshot of the reports; the last word on each rule, by its key; and what came of the feedback, with
    its word, where that is whole."""

    snapshot: SnapshotWord | None
    states: dict[str, StateWord]
    feedback: tuple[FeedbackWord, bytes] | None


def read_words(kafka: KafkaConfig, topic: str, reports: str, feedback: str) -> Known:
    """What the app wrote to its topic when it watched these reports and this feedback."""
    snapshot: SnapshotWord | None = None
    states: dict[str, StateWord] = {}
    labels: FeedbackWord | None = None
    parts: dict[str, PartWord] = {}
    with Reader(kafka, [topic]) as reader:
        for record in reader.read_until_end():
            word = decode(record.value())
            if isinstance(word, SnapshotWord) and word.reports == reports:
                snapshot = word
            elif isinstance(word, StateWord):
                states[word.key] = word
            elif isinstance(word, FeedbackWord) and word.topic == feedback:
                labels = word
            elif isinstance(word, PartWord) and word.topic == feedback:
                parts[word.key] = word
    content = assembled(labels, parts.values()) if labels is not None else None
    return Known(snapshot, states, (labels, content) if labels is not None and content is not None else None)
