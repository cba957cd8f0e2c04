"""What lies ahead of the consumer: the ends that it last heard of, and partitions that stand still."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.record import TopicPartition
from streamer.kafka.stuck import StuckWatch

LOOK_AHEAD_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ahead:
    """One partition: the next offset to take (behind the markers of ended transactions, too), the end of its log that
    the client last heard of (-1: none), and since when it has stood there with something ahead, in seconds of a
    monotonic clock (None: it has not)."""

    position: int
    high: int
    since: float | None = None


class Suspect(NamedTuple):
    """A partition that stands at `position`; `asked` is whether the client had its chance to give what is there."""

    position: int
    asked: bool


class Outlook:
    """Looks once a second. All but `look` and `idle` may be used from any thread."""

    def __init__(self, stuck_s: float, stand_s: float) -> None:
        self.ahead: dict[TopicPartition, Ahead] = {}
        self.suspects: dict[TopicPartition, Suspect] = {}
        self.stuck = StuckWatch(stuck_s)
        self._stand_s = stand_s
        self._asked: dict[TopicPartition, float] = {}  # since when
        self._look_at = 0.0
        self._idle_at = float("-inf")

    def idle(self, now: float) -> None:
        """The client was asked and had nothing: what it could give has been taken."""
        self._idle_at = now

    def look(
        self,
        consumer: Consumer,
        owned: Mapping[TopicPartition, int],
        reached: Mapping[TopicPartition, int],
        unasked: Set[TopicPartition],
        now: float,
        highs: Mapping[TopicPartition, int],
    ) -> None:
        """Look at the partitions that are ours, of which `reached` says up to where they were taken, or where we began
        to read them; `unasked` are those that are given no chance to move, `highs` ends that others heard of, as the
        client hears nothing of a partition that is paused. What stands still is resumed and sought to where it
        stands."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AHEAD_S
        ahead = {}
        for one in consumer.position([KafkaPartition(*key) for key in owned]) if owned else ():
            key = (one.topic, one.partition)
            position = one.offset if one.offset >= 0 else reached[key]
            high = max(consumer.get_watermark_offsets(one, cached=True)[1], highs.get(key, -1))
            ahead[key] = self._ahead(key, position, high, now)
        self.ahead = ahead
        self._asked = {key: self._asked.get(key, now) for key in ahead if key not in unasked}
        self.suspects = {
            key: Suspect(one.position, self._had_its_chance(key, one.since, now))
            for key, one in ahead.items()
            if one.since is not None and now - one.since >= self._stand_s
        }
        positions = {key: one.position for key, one in ahead.items() if key not in unasked}
        ends = {key: one.high for key, one in ahead.items() if one.high >= 0}
        for key, position in self.stuck.look(positions, ends, now).items():
            log.warning(
                "a partition is stuck: seeking to its position again",
                extra={"data": {"partition": key, "offset": position}},
            )
            try:
                consumer.resume([KafkaPartition(*key)])
                consumer.seek(KafkaPartition(key[0], key[1], position))
            except KafkaException as error:  # in a rebalance, say
                self.stuck.forget(key)
                log.warning(
                    "could not seek to an offset", extra={"data": {"partition": key, "error": error.args[0].name()}}
                )

    def _had_its_chance(self, key: TopicPartition, since: float, now: float) -> bool:
        """Whether the client was asked for long enough, and what it had was taken meanwhile."""
        asked = max(self._asked.get(key, now), since)
        return now - asked >= self._stand_s and self._idle_at > asked

    def _ahead(self, key: TopicPartition, position: int, high: int, now: float) -> Ahead:
        if 0 <= high <= position:
            return Ahead(position, high)
        before = self.ahead.get(key)
        stands = before is not None and before.position == position and before.since is not None
        return Ahead(position, high, before.since if stands else now)  # type: ignore[union-attr]
