"""Why a partition that stands still does: what the brokers say of it, asked for on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Set
from typing import Final

from confluent_kafka import KafkaException

from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.kafka.cluster_view import ClusterView, Ends
from streamer.kafka.errors import error_of
from streamer.kafka.outlook import Suspect
from streamer.kafka.source_policy import SourcePolicy
from streamer.kafka.unreadable import skip_words

LOOK_EVERY_S: Final = 5.0

log = logging.getLogger(__name__)


class StandstillWatch:
    """Asks nothing while nothing is suspected. `standings`, and `highs` of the suspects, may be read from any thread;
    topics that somebody missed are added with `misses`, and taken out once they are there."""

    def __init__(
        self, view: ClusterView, policy: SourcePolicy, suspects: Callable[[], Mapping[TopicPartition, Suspect]]
    ) -> None:
        self.standings: tuple[Standing, ...] = ()
        self.highs: dict[TopicPartition, int] = {}
        self._view = view
        self._policy = policy
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
        found = [_missing(topic) for topic in sorted(gone)]
        for key, one in suspects.items():
            if key in ends and (why := judge(key, one, ends[key], self._policy)) is not None:
                found.append(why)
        return found


def judge(key: TopicPartition, suspect: Suspect, ends: Ends, policy: SourcePolicy) -> Standing | None:
    """Why a partition stands, by where it stands and where its log ends; None where it has nothing to give."""
    topic, number = key
    position = suspect.position
    if position >= ends.high:
        return None
    if position >= ends.stable:
        tool = f"kafka-transactions.sh --bootstrap-server {policy.address}"
        place = f"--topic {topic} --partition {number}"
        return Standing(
            key,
            ends.stable,
            Reason.OPEN_TRANSACTION,
            f"a producer has left a transaction open there, and nothing after it can be read (up to {ends.high})",
            f"the broker aborts it after the producer's transaction.timeout.ms; `{tool} describe-producers {place}` "
            f"names the producer, `{tool} abort {place} --start-offset {ends.stable}` ends it now",
        )
    if not suspect.asked:
        return None
    return Standing(
        key,
        position,
        Reason.UNKNOWN,
        f"there are records up to offset {ends.stable}, and the client has been given none for {policy.stand_s:g} s",
        "check whether the network or a quota of the brokers is too slow, and the log of the partition's leader; if a "
        f"batch is damaged, {skip_words(key, policy.group, policy.address)}",
    )


def _missing(topic: str) -> Standing:
    return Standing(
        (topic, -1),
        -1,
        Reason.INPUT_MISSING,
        "this input topic does not exist",
        "create it again (`streamer topics create`), or remove it from `input` and restart",
    )
