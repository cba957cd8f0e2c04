"""The topics of the health app: what it reads and writes, made where they are missing, and where reading begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.core.health.words import Word, decode
from streamer.core.record import TopicPartition
from streamer.errors import ConfigurationError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.kafka.scan import Scan
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


class Followed:
    """The last words on the health topic's keys, and what comes since. Blocks; one thread at a time calls it. Raises
    DependencyError when the cluster does not answer, ConfigurationError for a missing topic or right."""

    def __init__(self, kafka: KafkaConfig, topic: str) -> None:
        self._reader = Reader(kafka, [topic])

    def words(self) -> Iterator[tuple[str, Word | None]]:
        """Each record's key and word up to the end found now, from where the last call ended; None is a word that was
        taken back, or is of no kind that is known here."""
        for record in self._reader.read_until_end():
            yield (record.key() or b"").decode(errors="replace"), decode(record.value())

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


def read_words(kafka: KafkaConfig, topic: str, since_ms: int = 0) -> dict[str, Word]:
    """The last word on each key of the health topic, of those that were written then or later; nothing where there is
    no such topic. Raises as `Followed` does."""
    if describe(connect(kafka), kafka, [topic])[topic] is None:
        return {}
    offsets = GroupOffsets(kafka)
    partitions = offsets.partitions([topic])
    starts = {place[1]: at for place, at in (offsets.at_time(partitions, since_ms).items() if since_ms else ())}
    found: dict[str, Word] = {}
    with Scan(kafka, topic, starts=starts) as scan:
        if since_ms:  # a partition without a record of that time or later has nothing to read
            scan.starts |= {partition: end for partition, end in scan.ends.items() if partition not in starts}
        for batch in scan.batches():
            for record in batch:
                key, word = (record.key() or b"").decode(errors="replace"), decode(record.value())
                found.pop(key, None)
                if word is not None:
                    found[key] = word
    return found
