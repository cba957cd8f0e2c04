"""What is watched while the source reads, and what is said of it: where it is and what lies ahead, partitions that
stand, and the group's word."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Set
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.intake import Intake, SourcePolicy
from streamer.core.membership import Membership
from streamer.core.obstacles import Unreadable
from streamer.core.read_progress import ReadProgress
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.core.unanswered import ReadState
from streamer.kafka.errors import error_of
from streamer.kafka.source.calls import Pauses
from streamer.kafka.source.cluster import ClusterView, StandstillWatch
from streamer.kafka.tokens import trouble_with_tokens

JOIN_S: Final = 60.0
LOGIN_S: Final = 10.0

REFUSALS: Final = {
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "a member of this group uses another partition assignor",
        "stop the members that are not streamer's (kafka-consumer-groups.sh --describe --group {group} --members names "
        "them), or set `group` to another name",
    ),
    KafkaError.GROUP_MAX_SIZE_REACHED: (
        "the group has as many members as the brokers allow",
        "run fewer replicas, or raise group.max.size on the brokers",
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: (
        "the brokers do not accept session.timeout.ms",
        "set it in kafka.properties between group.min.session.timeout.ms and group.max.session.timeout.ms of the "
        "brokers (6000 and 1800000 unless changed)",
    ),
    KafkaError.INVALID_GROUP_ID: ("the brokers do not take the group's name", "set `group` to another name"),
}
"""What the brokers answer to a member that may not join: what it means, and how to fix it."""

_FOR_GOOD: Final = frozenset({KafkaError.INVALID_SESSION_TIMEOUT, KafkaError.INVALID_GROUP_ID})

log = logging.getLogger(__name__)


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
        refused, since, reason = self._refused, self._ours.waits_since, Reason.GROUP
        out_s = time.monotonic() - since if since is not None else 0.0
        if out_s > LOGIN_S and (trouble := trouble_with_tokens()):
            reason = Reason.LOGIN
            what = f"no client can log in: kafka.oauth_callback {trouble}, and there is no valid token"
            fix = "correct the function, or see that what it asks answers; it is asked again by itself"
        elif refused is not None and refused[1] == self._ours.epoch:
            what, fix = self._words(refused[0])
        elif out_s > JOIN_S:
            what = f"group {self._group} has not assigned us any partitions for {JOIN_S:g} s"
            what += f" (the client's last error is {self.last_error})" if self.last_error else ""
            fix = (
                "check whether the brokers are up, and whether a member is holding up the group's rebalance "
                f"(kafka-consumer-groups.sh --describe --group {self._group} --members)"
            )
        else:
            return []
        return [Standing((topic, -1), -1, reason, what, fix) for topic in self._topics]

    def _words(self, code: int) -> tuple[str, str]:
        what, fix = REFUSALS[code]
        return f"group {self._group} does not let us in: {what}", fix.format(group=self._group)


class Watch:
    """`look` is for the source's thread, the rest for any."""

    def __init__(
        self, policy: SourcePolicy, ours: Membership, intake: Intake, pauses: Pauses, view: ClusterView | None
    ) -> None:
        self.read_progress = ReadProgress(policy.stuck_s, policy.stand_s)
        self.unreadable = Unreadable(policy.group, policy.address)
        self.joining = Joining(policy, ours)
        self.still = StandstillWatch(view, policy, lambda: self.read_progress.suspects)
        self._ours = ours
        self._intake = intake
        self._pauses = pauses

    def standing(self) -> list[Standing]:
        """The partitions that are ours and can't be read, and why."""
        epochs, suspects = self._ours.epochs, self.read_progress.suspects
        found = {
            one.partition: one
            for one in self.still.standings
            if one.partition[1] < 0 or (one.partition in epochs and one.partition in suspects)
        }
        found |= {one.partition: one for one in self.unreadable.standing()}
        found |= {one.partition: one for one in self.held()}
        return [*found.values(), *self.joining.standing()]

    def held(self) -> list[Standing]:
        """Those of them that the crash ledger holds."""
        return list(self._intake.held(self.read_progress.ahead))

    def ahead(self) -> Mapping[TopicPartition, ReadState]:
        """What there is to read of the partitions that are ours, as of the last second."""
        paused, careful = self._pauses.now, self._intake.most == 0
        return {
            key: ReadState(one.position, one.high, key in paused, careful)
            for key, one in self.read_progress.ahead.items()
        }

    def look(self, consumer: Consumer, now: float, *, asks: bool) -> None:
        """Where we are, and what the client last heard of the ends, of which it hears nothing while a partition is
        paused; `asks` is whether it is asked for records at all. What stands still is resumed and sought to where it
        stands."""
        ours = self._ours
        self.unreadable.keep(ours.epochs.keys())
        if not self.read_progress.is_due(now):
            return
        unasked: Set[TopicPartition] = self.still.blocked | (self._pauses.now if asks else ours.epochs.keys())
        positions: dict[TopicPartition, int] = {}
        highs: dict[TopicPartition, int] = {}
        for one in consumer.position([KafkaPartition(*key) for key in ours.epochs]) if ours.epochs else ():
            key = (one.topic, one.partition)
            positions[key] = one.offset if one.offset >= 0 else ours.reached[key]
            highs[key] = max(consumer.get_watermark_offsets(one, cached=True)[1], self.still.highs.get(key, -1))
        for key, position in self.read_progress.look(positions, highs, unasked, now).items():
            data = {"partition": key, "offset": position}
            log.warning("a partition is stuck: seeking to its position again", extra={"data": data})
            try:
                consumer.resume([KafkaPartition(*key)])
                consumer.seek(KafkaPartition(*key, position))
            except KafkaException as error:  # in a rebalance, say
                self.read_progress.stuck.forget(key)
                told = {"partition": key, "error": error_of(error).name()}
                log.warning("could not seek to an offset", extra={"data": told})
