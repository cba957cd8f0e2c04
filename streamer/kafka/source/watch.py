"""What is watched while the source reads, beside what its client says: the group's word, and the brokers' on partitions
that stand still, asked for on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from concurrent.futures import Future
from functools import cached_property, partial
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.core.intake import SourcePolicy
from streamer.core.membership import Membership
from streamer.core.obstacles import Ends, judge, missing_input
from streamer.core.outlook import Suspect
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.kafka.clients import admin_properties, make_admin
from streamer.kafka.errors import MISSING, answer, error_of

LOOK_EVERY_S: Final = 5.0
REQUEST_S: Final = 10.0
JOIN_S: Final = 60.0

REFUSALS: Final = {
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "a member of this group divides partitions in another way",
        "stop the members that are not streamer's (kafka-consumer-groups.sh --describe --group {group} --members names "
        "them), or set `group` to another name",
    ),
    KafkaError.GROUP_MAX_SIZE_REACHED: (
        "the group has as many members as the brokers allow",
        "run fewer replicas, or raise group.max.size on the brokers",
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: (
        "the brokers do not take session.timeout.ms",
        "set it in kafka.properties between group.min.session.timeout.ms and group.max.session.timeout.ms of the "
        "brokers (6000 and 1800000 unless changed)",
    ),
    KafkaError.INVALID_GROUP_ID: ("the brokers do not take the group's name", "set `group` to another name"),
}
"""What the brokers answer to a member that may not join: what it means, and how to fix it."""

_FOR_GOOD: Final = frozenset({KafkaError.INVALID_SESSION_TIMEOUT, KafkaError.INVALID_GROUP_ID})


class Joining:
    """The group: that it refuses us, or has not told us for long what is ours. On the source thread, but for
    `standing`. `last_error` names the latest error of the client's that passed."""

    def __init__(self, policy: SourcePolicy, ours: Membership) -> None:
        self.last_error = ""
        self._group = policy.group
        self._topics = policy.topics
        self._ours = ours
        self._refused: tuple[int, int] | None = None  # a code, and the epoch under which it came

    def refused(self, code: int) -> str:
        """The brokers answered with this one of `REFUSALS`. Returns the words to end with where it is for good."""
        self._refused = (code, self._ours.epoch)
        return "{}; {}".format(*self._words(code)) if code in _FOR_GOOD else ""

    def standing(self) -> list[Standing]:
        """What keeps us out. From any thread."""
        refused, since = self._refused, self._ours.waits_since
        if refused is not None and refused[1] == self._ours.epoch:
            what, fix = self._words(refused[0])
        elif since is not None and time.monotonic() - since > JOIN_S:
            what = f"group {self._group} has not assigned us any partitions for {JOIN_S:g} s"
            what += f" (the client's last error is {self.last_error})" if self.last_error else ""
            fix = (
                "check whether the brokers are up, and whether a member is holding up the group's rebalance "
                f"(kafka-consumer-groups.sh --describe --group {self._group} --members)"
            )
        else:
            return []
        return [Standing((topic, -1), -1, Reason.GROUP, what, fix) for topic in self._topics]

    def _words(self, code: int) -> tuple[str, str]:
        what, fix = REFUSALS[code]
        return f"group {self._group} does not let us in: {what}", fix.format(group=self._group)


class StandstillWatch:
    """Why partitions that stand still do. Asks nothing while nothing is suspected. `standings`, and `highs` of the
    suspects, may be read from any thread; topics that somebody missed are added with `misses`, and taken out once they
    are there."""

    def __init__(
        self, view: ClusterView, policy: SourcePolicy, suspects: Callable[[], Mapping[TopicPartition, Suspect]]
    ) -> None:
        self.standings: tuple[Standing, ...] = ()
        self.highs: dict[TopicPartition, int] = {}
        self._view = view
        self._judge = partial(judge, group=policy.group, address=policy.address, stand_s=policy.stand_s)
        self._suspects = suspects
        self._missed: set[str] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standstill-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Look no more. A request under way ends by itself."""
        self._closing.set()

    def misses(self, topics: Collection[str]) -> None:
        """These topics are said not to be there."""
        self._missed.update(topics)

    @property
    def blocked(self) -> Set[TopicPartition]:
        """The partitions that the client can give nothing of, whatever it is told."""
        return {one.partition for one in self.standings if one.reason is Reason.OPEN_TRANSACTION}

    @property
    def unsure(self) -> bool:
        """Whether a topic is missed, or was a moment ago."""
        return bool(self._missed)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            self.standings = tuple(self._look())

    def _look(self) -> list[Standing]:
        suspects = dict(self._suspects())
        self.highs = {key: high for key, high in self.highs.items() if key in suspects}
        asked = set(self._missed) | {topic for topic, _ in suspects}
        if not asked:
            return []
        try:
            gone = self._view.missing(asked)
            ends = self._view.ends(key for key in suspects if key[0] not in gone)
        except (KafkaException, TimeoutError) as error:
            name = error_of(error).name() if isinstance(error, KafkaException) else "no answer"
            what, fix = f"the brokers do not say where its log ends ({name})", "start them, or see their logs"
            return [Standing(key, one.position, Reason.UNKNOWN, what, fix) for key, one in suspects.items()]
        self.highs = {key: end.high for key, end in ends.items()}
        self._missed -= asked - gone  # in place: the source adds to it
        self._missed |= gone
        found = [missing_input(topic) for topic in sorted(gone)]
        for key, one in suspects.items():
            if key in ends and (why := self._judge(key, one, ends[key])) is not None:
                found.append(why)
        return found


class ClusterView:
    """What the brokers say of input topics, apart from what the consumer reads. Asks from any thread; connects when it
    is first asked. Raises KafkaException."""

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
