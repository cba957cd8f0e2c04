"""The topics that a pipeline writes, as the brokers describe them: how large a record each takes, how many partitions
it has. Looked at when a pipeline starts, and again where a refusal, or a record that is too large, says that they may
have changed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.config.fields import Config
from streamer.core.pipeline.refusal import Refusal, Refused
from streamer.core.record import TopicPartition
from streamer.errors import ConfigurationError, StreamerError
from streamer.kafka.topics import TopicInfo, connect, describe, examine

if TYPE_CHECKING:
    from streamer.core.results.encoder import OutputLimits

DEFAULT_MESSAGE_BYTES = 1_048_588  # the brokers' own default of max.message.bytes
FRESH_S = 0.5
LOOK_S = 3.0

log = logging.getLogger(__name__)


class Sizes(NamedTuple):
    """Of `max.message.bytes` over the topics written."""

    smallest: int
    largest: int


class OutputTopics:
    """The topics that the pipeline `name` writes. `ready` ends once they are found sound, or with what is wrong."""

    def __init__(self, config: Config, name: str) -> None:
        self.ready: Future[None] = Future()
        self._config = config
        self._name = name
        pipeline = config.pipelines[name]
        self._output, self._dead_letter, self._reports = (
            pipeline.output,
            pipeline.dead_letter,
            config.telemetry.reports,
        )
        self._same = pipeline.partitioning == "same"
        self._found: dict[str, TopicInfo | None] = {}
        self._looked = 0.0
        self._admin: AdminClient | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Look at all topics for the first time. Raises ConfigurationError with what is wrong, or DependencyError."""
        admin = connect(self._config.kafka)
        findings, found = examine(admin, self._config, [self._name])
        for finding in findings:
            if finding.warning:
                log.warning("%s: %s; %s", finding.topic, finding.problem, finding.fix)
        if errors := [finding for finding in findings if not finding.warning]:
            lines = "\n".join(f"- {finding.topic}: {finding.problem}; {finding.fix}" for finding in errors)
            raise ConfigurationError(f"the topics are not ready:\n{lines}")
        self._admin, self._looked = admin, time.monotonic()
        self._found = {topic: found[topic] for topic in self.names}

    def look(self, older_than_s: float = 0.0) -> bool:
        """Look again, if the last look is older; returns whether something changed since. Brokers that do not answer
        change nothing. From any thread."""
        with self._lock:
            if time.monotonic() - self._looked < older_than_s:
                return False
            try:
                self._admin = self._admin or connect(self._config.kafka, LOOK_S)
                found = describe(self._admin, self._config.kafka, self.names, LOOK_S)
            except (KafkaException, StreamerError, TimeoutError) as error:
                log.warning("the output topics could not be described", extra={"data": {"error": type(error).__name__}})
                return False
            before, self._found, self._looked = self._found, found, time.monotonic()
            if changed := sorted(topic for topic in found if found[topic] != before.get(topic)):
                log.info("output topics have changed", extra={"data": {"topics": changed}})
            return bool(changed)

    def limits(self, refresh: bool = False) -> OutputLimits:
        """What one record may be, with `refresh` after a look that is no older than `FRESH_S`."""
        from streamer.core.results.encoder import OutputLimits  # not needed before the model is loaded

        if refresh:
            self.look(FRESH_S)
        output = self._found.get(self._output)
        compacted = output is not None and "compact" in (output.cleanup_policy or "").split(",")
        return OutputLimits(self._bytes(self._output), self._bytes(self._dead_letter), keyless=not compacted)

    def sizes(self) -> Sizes:
        """The smallest and the largest limit of all that are there."""
        found = [self._bytes(topic) for topic in self.names]
        return Sizes(min(found), max(found))

    def missing(self, partitions: Iterable[TopicPartition]) -> tuple[Refusal, ...]:
        """Where outcomes of these input partitions would have no place, as of the last look."""
        refusals = []
        for topic in self.names:
            info, letters = self._found.get(topic), self._letters(topic)
            if info is None:
                refusals.append(
                    Refusal(
                        topic,
                        -1,
                        Refused.MISSING,
                        "UNKNOWN_TOPIC_OR_PART",
                        f"topic {topic} does not exist",
                        "create it (`streamer topics create` creates those of the configuration)",
                        letters,
                    )
                )
            elif self._same and letters is not None:
                highest = max((number for _, number in partitions), default=0)
                refusals += [
                    Refusal(
                        topic,
                        number,
                        Refused.MISSING,
                        "UNKNOWN_PARTITION",
                        f"topic {topic} has {info.partitions} partitions, and outcomes go to partition {number}",
                        f"kafka-topics --bootstrap-server {self._config.kafka.bootstrap_servers} --alter"
                        f" --topic {topic} --partitions {highest + 1}, or as many as the input has",
                        letters,
                    )
                    for number in sorted({number for _, number in partitions} if highest >= info.partitions else ())
                    if number >= info.partitions
                ]
        return tuple(refusals)

    def refusal(self, topic: str, partition: int, code: str, *, size: bool, record: bool) -> Refusal:
        """What a delivery report says, in words."""
        letters = self._letters(topic)
        kind = Refused.SIZE if size else Refused.RECORD if record else Refused.TOPIC
        if letters is None:
            kind = Refused.TOPIC
        return Refusal(
            topic,
            partition if self._same and letters is not None else -1,
            kind,
            code,
            f"topic {topic} refuses what is written to it ({code})",
            _FIXES.get(code, "look at the topic's configuration and at the brokers' logs"),
            letters,
        )

    @property
    def names(self) -> list[str]:
        """Of all topics written."""
        return [topic for topic in (self._output, self._dead_letter, self._reports) if topic]

    def _letters(self, topic: str) -> bool | None:
        return None if topic == self._reports else topic == self._dead_letter

    def _bytes(self, topic: str) -> int:
        info = self._found.get(topic)
        return (info.max_message_bytes if info is not None else None) or DEFAULT_MESSAGE_BYTES


_FIXES = {
    "INVALID_RECORD": "a compacted topic takes no record without a key: give the input keys, or set cleanup.policy"
    " to delete; a broker that checks schemas logs what is missing",
    "INVALID_TIMESTAMP": "compare the clocks of this machine and of the brokers, or raise the topic's"
    " message.timestamp.before.max.ms and message.timestamp.after.max.ms",
    "MSG_SIZE_TOO_LARGE": "raise its max.message.bytes, or ask for a smaller output",
    "RECORD_LIST_TOO_LARGE": "raise its segment.bytes and max.message.bytes, or ask for a smaller output",
    "TOPIC_AUTHORIZATION_FAILED": "grant Write on it (kafka-acls --add --operation Write)",
    "TOPIC_EXCEPTION": "correct its name",
}
