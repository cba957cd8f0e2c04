"""What lies ahead of the consumer: the ends that it last heard of, and partitions that stand still for no reason."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Set
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.record import TopicPartition
from streamer.kafka.stuck import StuckWatch

LOOK_AHEAD_S = 1.0

log = logging.getLogger(__name__)


class Ahead(NamedTuple):
    """One partition: the next offset to take, and the end of its log that the client last heard of (-1: none)."""

    position: int
    high: int


class Outlook:
    """Looks once a second. `highs` (for the lag), `ahead` and `stuck.healed` may be read from any thread."""

    def __init__(self, stuck_s: float) -> None:
        self.highs: dict[TopicPartition, int] = {}
        self.ahead: dict[TopicPartition, Ahead] = {}
        self.stuck = StuckWatch(stuck_s)
        self._look_at = 0.0

    def look(
        self,
        consumer: Consumer,
        owned: Collection[TopicPartition],
        starts: Mapping[TopicPartition, int],
        unasked: Set[TopicPartition],
        now: float,
    ) -> None:
        """Look at the partitions that are ours, of which `starts` says where we began to read them; `unasked` are those
        that are given no chance to move. What stands still is resumed and sought to where it stands."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AHEAD_S
        highs = {}
        for key in owned:
            _, high = consumer.get_watermark_offsets(KafkaPartition(*key), cached=True)
            if high >= 0:
                highs[key] = high
        self.highs = highs
        every = {
            (one.topic, one.partition): one.offset if one.offset >= 0 else starts[one.topic, one.partition]
            for one in (consumer.position([KafkaPartition(*key) for key in owned]) if owned else ())
        }
        self.ahead = {key: Ahead(position, highs.get(key, -1)) for key, position in every.items()}
        positions = {key: position for key, position in every.items() if key not in unasked}
        for key, position in self.stuck.look(positions, highs, now).items():
            log.warning(
                "a partition stands still and is sought anew", extra={"data": {"partition": key, "offset": position}}
            )
            try:
                consumer.resume([KafkaPartition(*key)])
                consumer.seek(KafkaPartition(key[0], key[1], position))
            except KafkaException as error:  # in a rebalance, say
                self.stuck.forget(key)
                log.warning("it could not be sought", extra={"data": {"partition": key, "error": error.args[0].name()}})
