"""What a member looks for in its group once it has joined: members that write elsewhere, and partitions that belong
to nobody in a group that calls itself stable, with the cure.

Under static membership a member that was told to give up a partition may be killed before it joined again. When its
slot restarts within the session timeout, the broker hands it its last assignment, which is without that partition, in
a stable group: nobody rebalances, and nobody gets the partition, for ever (seen on Kafka 4.3.1, three times of three).
So a restarted static member looks at the group twice, and when the same partition is nobody's both times it joins
anew. Once per start is enough: only the restart of a slot suppresses the rebalance that would have healed it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from streamer.config.fields import KafkaConfig
from streamer.core.members import output_of
from streamer.core.record import TopicPartition
from streamer.errors import StreamerError
from streamer.kafka.lag import when_loaded
from streamer.kafka.source import KafkaSource
from streamer.kafka.topics import connect

LOOK_AFTER_S = 5.0
REQUEST_S = 10.0

log = logging.getLogger(__name__)


def describe(admin: AdminClient, group: str) -> Any:
    """The group as its coordinator sees it. Raises KafkaException or TimeoutError when that one does not answer."""
    return when_loaded(lambda: admin.describe_consumer_groups([group], request_timeout=REQUEST_S)[group])


def find_orphans(kafka: KafkaConfig, group: str, topics: list[str]) -> frozenset[TopicPartition]:
    """The partitions of `topics` that no member of a stable group has; empty while the group is not stable.

    Raises StreamerError or KafkaException when the cluster does not answer.
    """
    return _orphans(connect(kafka), group, topics, lambda _: None)


def _orphans(
    admin: AdminClient, group: str, topics: list[str], tell: Callable[[Any], None]
) -> frozenset[TopicPartition]:
    description = describe(admin, group)
    tell(description)
    if description.state != ConsumerGroupState.STABLE:
        return frozenset()
    owned = {
        (partition.topic, partition.partition)
        for member in description.members
        for partition in (member.assignment.topic_partitions if member.assignment else ())
    }
    found = admin.list_topics(timeout=REQUEST_S).topics
    wanted = {(topic, number) for topic in topics if topic in found for number in found[topic].partitions}
    return frozenset(wanted - owned)


class OrphanWatch:
    """Looks twice, `after_s` apart, on a thread of its own; then ends. Once where the member is a dynamic one, which
    leaves no orphans. `output` is where this pipeline writes: a member that writes elsewhere is told of."""

    def __init__(
        self,
        source: KafkaSource,
        kafka: KafkaConfig,
        group: str,
        topics: list[str],
        after_s: float = LOOK_AFTER_S,
        *,
        output: str = "",
        dynamic: bool = False,
    ) -> None:
        self._source = source
        self._kafka = kafka
        self._group = group
        self._topics = topics
        self._output = output
        self._dynamic = dynamic
        self._told: set[str] = set()
        self._after_s = after_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orphan-watch", daemon=True)

    def start(self) -> None:
        """Begin; the source has just been told to join."""
        self._thread.start()

    def close(self, _timeout_s: float = 0.0) -> None:
        """Look no more. A request under way ends by itself."""
        self._closing.set()

    def _run(self) -> None:
        try:
            orphans = self._look()
            if self._dynamic:
                return
            orphans &= self._look()
        except (StreamerError, KafkaException, TimeoutError) as error:
            log.warning("the group could not be looked at", extra={"data": {"error": type(error).__name__}})
            return
        if orphans and not self._closing.is_set():
            log.warning(
                "no member has these partitions: joining the group again",
                extra={"data": {"partitions": sorted(orphans)}},
            )
            self._source.rejoin()

    def _look(self) -> frozenset[TopicPartition]:
        if self._closing.wait(self._after_s):
            return frozenset()
        return _orphans(connect(self._kafka), self._group, self._topics, self._tell)

    def _tell(self, description: Any) -> None:
        """Name each topic that members of this group write to instead, once."""
        for member in description.members:
            output = output_of(member.client_id or "")
            if output and output != self._output and output not in self._told:
                self._told.add(output)
                log.warning(
                    "a member of this group writes its results to %s, not to %s: two configurations share the group and"
                    " each answers a part of the records; stop one of the two, or set `group` to another name for it",
                    output,
                    self._output,
                    extra={"data": {"group": self._group, "topic": output, "address": member.host}},
                )
