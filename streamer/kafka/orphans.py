"""What a member looks for in its group: members that write elsewhere, members that are not streamer's, and, once it has
joined, partitions that belong to nobody in a group that calls itself stable, with the cure.

Under static membership a member that was told to give up a partition may be killed before it joined again. When its
slot restarts within the session timeout, the broker hands it its last assignment, which is without that partition, in
a stable group: nobody rebalances, and nobody gets the partition, for ever (seen on Kafka 4.3.1, three times of three).
So a restarted static member looks at the group twice, and when the same partition is nobody's both times it
rejoins. Once per start is enough: only the restart of a slot suppresses the rebalance that would have healed it.

A consumer of another program that joins the group, at any time, is given some of the partitions. What it settles counts
as settled, so that lag is 0 and nothing else shows that these records get no answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.config.fields import KafkaConfig
from streamer.core.members import is_stranger, output_of
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.errors import StreamerError
from streamer.kafka.group_view import GroupView, Member, look_at
from streamer.kafka.source.source import KafkaSource
from streamer.kafka.topics import connect

LOOK_AFTER_S = 5.0
AGAIN_S = 20.0
"""Between two later looks: with the time that a look takes, a stranger is named within a minute."""
REQUEST_S = 10.0

log = logging.getLogger(__name__)


def find_orphans(
    admin: AdminClient, group: str, topics: list[str], tell: Callable[[GroupView], None] = lambda _: None
) -> frozenset[TopicPartition]:
    """The partitions of `topics` that no member of a stable group has; empty while the group is not stable. `tell` is
    given what was seen. Raises StreamerError or KafkaException when the cluster does not answer."""
    view = look_at(admin, group, REQUEST_S)
    tell(view)
    if not view.stable:
        return frozenset()
    owned = {each for member in view.members for each in member.partitions}
    found = admin.list_topics(timeout=REQUEST_S).topics
    wanted = {(topic, number) for topic in topics if topic in found for number in found[topic].partitions}
    return frozenset(wanted - owned)


class OrphanWatch:
    """Looks on a thread of its own: for orphans twice, `after_s` apart, or once where the member is a dynamic one,
    which leaves none; at the other members then every `again_s`. `output` is where this pipeline writes: a member that
    writes elsewhere is told of. `client` is our client.id, by which strangers are known."""

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
        client: str = "",
        again_s: float = AGAIN_S,
    ) -> None:
        self._source = source
        self._kafka = kafka
        self._group = group
        self._topics = topics
        self._output = output
        self._dynamic = dynamic
        self._client = client
        self._again_s = again_s
        self._admin: AdminClient | None = None
        self._strangers: dict[str, list[Standing]] = {}
        """By member, replaced as a whole."""
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

    def standing(self) -> list[Standing]:
        """The partitions that strangers have. From any thread."""
        return [one for taken in self._strangers.values() for one in taken]

    def _run(self) -> None:
        try:
            orphans = self._look()
            if not self._dynamic:
                orphans &= self._look()
        except (StreamerError, KafkaException, TimeoutError) as error:
            log.warning("the group could not be read", extra={"data": {"error": type(error).__name__}})
        else:
            if orphans and not self._dynamic and not self._closing.is_set():
                log.warning(
                    "no member has these partitions: joining the group again",
                    extra={"data": {"partitions": sorted(orphans)}},
                )
                self._source.rejoin()
        self._after_s = self._again_s
        while not self._closing.is_set():
            try:
                self._look()
            except (StreamerError, KafkaException, TimeoutError) as error:
                # The brokers are away, which others tell of. What we knew of the group may be over. The client is kept:
                # to end it would wait for its threads, while requests to these brokers are pending.
                self._strangers = {}
                log.debug("the group could not be read", extra={"data": {"error": type(error).__name__}})

    def _look(self) -> frozenset[TopicPartition]:
        if self._closing.wait(self._after_s):
            return frozenset()
        if self._admin is None:
            self._admin = connect(self._kafka)
        return find_orphans(self._admin, self._group, self._topics, self._tell)

    def _tell(self, view: GroupView) -> None:
        """Name each topic that members of this group write to instead, once; note what strangers have."""
        strangers = [one for one in view.members if is_stranger(one.client, self._client)]
        if view.stable:
            self._strangers = {one.name: self._taken(one) for one in strangers}
        else:  # nobody's partitions are told while they are reassigned, which may last for minutes
            self._strangers = {one.name: self._strangers.get(one.name, []) for one in strangers}
        for member in view.members:
            output = output_of(member.client)
            if output and output != self._output and output not in self._told:
                self._told.add(output)
                log.warning(
                    "a member of this group writes its results to %s, not to %s: two configurations share the group and"
                    " each answers a part of the records; stop one of the two, or set `group` to another name for it",
                    output,
                    self._output,
                    extra={"data": {"group": self._group, "topic": output, "address": member.host}},
                )

    def _taken(self, member: Member) -> list[Standing]:
        who = f"{member.client} on {member.host}"
        what = f"a member of group {self._group} ({who}) is not streamer's, and takes these records: they get no answer"
        fix = (
            "stop it, or set `group` to another name; what it has taken is read again after kafka-consumer-groups"
            f" --group {self._group} --reset-offsets"
        )
        return [Standing(each, -1, Reason.GROUP, what, fix) for each in member.partitions if each[0] in self._topics]
