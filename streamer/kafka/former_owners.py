"""Which member had which partition when this process started, and whether those live that count as dead.

The broker counts a process that died as a member until its session times out, so whoever is started again sees what it
had: with a committed offset whose last word is not that member's own, this is evidence of a death (decision 7). No
commit tells as much of a process that died before its first settle.

A member that was fenced by another one of its slot lives, and can't say so. Before the last of `crash_limit` deaths
leads to a hold, it is looked at again after its session would have timed out.
"""

from __future__ import annotations

import logging
import threading
import time

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from streamer.config.fields import KafkaConfig
from streamer.core.pipeline.attempts import Former, would_hold
from streamer.core.record import TopicPartition
from streamer.errors import StreamerError
from streamer.kafka.coordinator import describe
from streamer.kafka.settled import settled_offsets
from streamer.kafka.topics import connect

WAIT_S = 1.0
LOOK_S = 0.5
REQUEST_S = 5.0
SLACK_S = 2.0  # how long the broker may take to notice that a session has timed out

log = logging.getLogger(__name__)


class FormerOwners:
    """Asks on a thread of its own, while the workers load. `session_ms` is how long a dead member is one."""

    def __init__(self, kafka: KafkaConfig, group: str, crash_limit: int, session_ms: int) -> None:
        self._kafka = kafka
        self._group = group
        self._crash_limit = crash_limit
        self._session_s = session_ms / 1000
        self._found = Former()
        self._doubts = False
        self._thread = threading.Thread(target=self._ask, name="former-owners", daemon=True)
        self._thread.start()

    def __call__(self) -> Former:
        """None where the brokers take long to answer."""
        self._thread.join(WAIT_S)
        if self._doubts:
            self._thread.join(self._session_s + SLACK_S + REQUEST_S)
        return self._found

    def _ask(self) -> None:
        try:
            admin = connect(self._kafka)
            owners = self._owners(admin)
            self._found = Former(owners)
            alive = self._doubtful(owners)
            self._doubts = bool(alive)
            until = time.monotonic() + self._session_s + SLACK_S
            while alive and time.monotonic() < until:
                time.sleep(LOOK_S)
                alive &= set(self._owners(admin).values())
            self._found = Former(owners, frozenset(alive))
        except (StreamerError, KafkaException, TimeoutError) as error:
            log.warning("the group could not be read", extra={"data": {"error": type(error).__name__}})

    def _owners(self, admin: AdminClient) -> dict[TopicPartition, str]:
        return {
            (one.topic, one.partition): member.member_id
            for member in describe(admin, self._group).members
            for one in (member.assignment.topic_partitions if member.assignment else ())
        }

    def _doubtful(self, owners: dict[TopicPartition, str]) -> set[str]:
        """The members whose death would lead to a hold."""
        asked = [KafkaPartition(*key) for key in owners]
        found = settled_offsets(self._kafka, self._group, asked, REQUEST_S) if asked else []
        by_member = [(owners[one.topic, one.partition], one.metadata or "") for one in found]
        return {member for member, note in by_member if would_hold(note, member, self._crash_limit)}
