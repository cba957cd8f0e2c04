"""The group: that it refuses us, or has not told us for long what is ours."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import KafkaError

from streamer.core.membership import Membership
from streamer.core.standing import Reason, Standing
from streamer.kafka.source_policy import SourcePolicy

JOIN_S: Final = 60.0

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


class Joining:
    """On the source thread, but for `standing`. `last_error` names the latest error of the client's that passed."""

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
