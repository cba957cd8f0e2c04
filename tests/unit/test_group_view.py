"""What the members of a group have, out of the bytes that they were given."""

from __future__ import annotations

import struct
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.kafka.group_view import GroupView, Member, given, look_at


def _assignment(topics: dict[str, list[int]]) -> bytes:
    parts = [struct.pack(">hi", 0, len(topics))]
    for topic, numbers in topics.items():
        parts += [struct.pack(">h", len(topic.encode())), topic.encode()]
        parts.append(struct.pack(f">i{len(numbers)}i", len(numbers), *numbers))
    return b"".join([*parts, struct.pack(">i", 0)])


def _group(**fields: object) -> Mock:
    return Mock(**{"error": None, "state": "Stable", "members": [], **fields})


def test_an_assignment_names_partitions() -> None:
    """Of all topics in it."""
    assert given(_assignment({"in": [0, 2], "other": [], "späte": [7]})) == (("in", 0), ("in", 2), ("späte", 7))


@pytest.mark.parametrize(
    "bad", [b"", b"\x00", b"connect", _assignment({"in": [1]})[:-9], b"\x00\x00\x7f\xff\xff\xff\x7f\xff", b"\xff" * 40]
)
def test_what_is_no_assignment_names_none(bad: bytes) -> None:
    """Members of other protocols, and damage."""
    assert given(bad) == ()


def test_a_group_is_seen_with_its_members() -> None:
    """And one that nobody is in."""
    member = Mock(id="m", client_id="c", client_host="/10.0.0.1", assignment=_assignment({"in": [1]}))
    admin = Mock()
    admin.list_groups.side_effect = [[_group(members=[member])], [_group(state="PreparingRebalance")], []]
    assert look_at(admin, "g", 1.0) == GroupView(True, (Member("m", "c", "10.0.0.1", (("in", 1),)),))
    assert not look_at(admin, "g", 1.0).stable
    assert look_at(admin, "none", 1.0) == GroupView()


def test_a_group_that_may_not_be_seen_raises() -> None:
    """Its error is in the answer."""
    admin = Mock()
    admin.list_groups.return_value = [_group(error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))]
    with pytest.raises(KafkaException, match="GROUP_AUTHORIZATION_FAILED"):
        look_at(admin, "g", 1.0)
