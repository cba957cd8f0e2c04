"""What the brokers say of the input, apart from what the consumer reads: where logs end, and why partitions that stand
still do, asked for on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import Future
from functools import cached_property, partial
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.core.intake import SourcePolicy
from streamer.core.obstacles import Ends, judge, missing_input
from streamer.core.read_progress import Suspect
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.kafka.clients import admin_properties, make_admin
from streamer.kafka.errors import MISSING, answer, error_of

LOOK_EVERY_S: Final = 5.0
REQUEST_S: Final = 10.0


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


class StandstillWatch:
    """Why partitions that stand still do. Asks nothing while nothing is suspected, nor without a view. `standings`, and
    `highs` of the suspects, may be read from any thread; a topic that somebody missed is added with `misses`, and taken
    out once it is there."""

    def __init__(
        self, view: ClusterView | None, policy: SourcePolicy, suspects: Callable[[], Mapping[TopicPartition, Suspect]]
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
        if self._view is not None:
            self._thread.start()

    def close(self) -> None:
        """Look no more. A request under way ends by itself."""
        self._closing.set()

    def misses(self, topic: str) -> None:
        """This topic is said not to be there."""
        self._missed.add(topic)

    @property
    def blocked(self) -> Set[TopicPartition]:
        """The partitions that the client can give nothing of, whatever it is told."""
        return {one.partition for one in self.standings if one.reason is Reason.OPEN_TRANSACTION}

    @property
    def unsure(self) -> bool:
        """Whether a topic is missed, or was a moment ago."""
        return bool(self._missed)

    def _run(self) -> None:
        assert self._view is not None
        while not self._closing.wait(LOOK_EVERY_S):
            self.standings = tuple(self._look(self._view))

    def _look(self, view: ClusterView) -> list[Standing]:
        suspects = dict(self._suspects())
        self.highs = {key: high for key, high in self.highs.items() if key in suspects}
        asked = set(self._missed) | {topic for topic, _ in suspects}
        if not asked:
            return []
        try:
            gone = view.missing(asked)
            ends = view.ends(key for key in suspects if key[0] not in gone)
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
