"""A group and what its members have, as an onlooker sees them who looks for months.

By the client's older requests: the newer ones take the process down when a broker stops while they are under way
(librdkafka 2.16.1, confluentinc/librdkafka#4605; seen at the restart of a single broker, with six of them asking).
"""

from __future__ import annotations

import re
import struct
import warnings
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.core.record import TopicPartition

_STABLE = "Stable"
_UUID = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class Member(NamedTuple):
    """A member, and the partitions that it was given: none while they are reassigned."""

    name: str
    client: str
    host: str
    partitions: tuple[TopicPartition, ...]

    @property
    def slot(self) -> str:
        """The slot of a static member, whose id brokers make of it and a UUID; of another, its client's name."""
        return _UUID.sub("", self.name)


class GroupView(NamedTuple):
    """A group; nobody is in one that is not there."""

    stable: bool = False
    members: tuple[Member, ...] = ()


def look_at(admin: AdminClient, group: str, timeout_s: float) -> GroupView:
    """The group as it is now. Raises KafkaException, also where not every broker answers."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        found = admin.list_groups(group, timeout=timeout_s)
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
        members = (
            Member(one.id or "", one.client_id or "", (one.client_host or "").lstrip("/"), given(one.assignment or b""))
            for one in each.members
        )
        return GroupView(each.state == _STABLE, tuple(members))
    return GroupView()


def given(assignment: bytes) -> tuple[TopicPartition, ...]:
    """The partitions in an assignment of the consumers' protocol; none in what is no such."""
    found = []
    try:
        (topics,) = struct.unpack_from(">i", assignment, 2)
        at = 6
        for _ in range(topics):
            (length,) = struct.unpack_from(">h", assignment, at)
            topic = assignment[at + 2 : at + 2 + length].decode()
            at += 2 + length
            (count,) = struct.unpack_from(">i", assignment, at)
            numbers = struct.unpack_from(f">{count}i", assignment, at + 4)
            at += 4 + 4 * count
            found += [(topic, number) for number in numbers]
    except (struct.error, UnicodeDecodeError):
        return ()
    return tuple(found)
