"""Which member had which partition when this process started.

The broker counts a process that died as a member until its session times out, so whoever is started again sees what it
had: with a committed offset whose last word is not that member's own, this is evidence of a death (decision 7). No
commit tells as much of a process that died before its first settle.
"""

from __future__ import annotations

import logging
import threading

from confluent_kafka import KafkaException

from streamer.config_fields import KafkaConfig
from streamer.core.record import TopicPartition
from streamer.errors import StreamerError
from streamer.kafka.orphans import describe
from streamer.kafka.topics import connect

WAIT_S = 1.0

log = logging.getLogger(__name__)


class FormerOwners:
    """Asks on a thread of its own, while the workers load."""

    def __init__(self, kafka: KafkaConfig, group: str) -> None:
        self._kafka = kafka
        self._group = group
        self._owners: dict[TopicPartition, str] = {}
        self._thread = threading.Thread(target=self._ask, name="former-owners", daemon=True)
        self._thread.start()

    def __call__(self) -> dict[TopicPartition, str]:
        """The members' ids; none where the brokers take long to answer."""
        self._thread.join(WAIT_S)
        return self._owners

    def _ask(self) -> None:
        try:
            members = describe(connect(self._kafka), self._group).members
        except (StreamerError, KafkaException, TimeoutError) as error:
            log.warning("the group could not be looked at", extra={"data": {"error": type(error).__name__}})
            return
        self._owners = {
            (one.topic, one.partition): member.member_id
            for member in members
            for one in (member.assignment.topic_partitions if member.assignment else ())
        }
