"""Requests to a coordinator that is not there yet."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamer.config.fields import KafkaConfig
from streamer.kafka import coordinator, settled
from streamer.kafka.settled import settled_offsets

LOADS = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Mock:
    made = Mock()
    monkeypatch.setattr(settled, "make_consumer", lambda _: made)
    monkeypatch.setattr(coordinator, "_AGAIN_S", 0.01)
    return made


def _settled(timeout_s: float = 5.0) -> list[TopicPartition]:
    return settled_offsets(KafkaConfig(), "group", [TopicPartition("in", 0)], timeout_s)


def test_the_first_group_of_a_new_cluster_is_asked_for_again(consumer: Mock) -> None:
    """Whether the whole request is refused or one partition of it."""
    refused, found = Mock(error=LOADS.args[0]), Mock(error=None, offset=7)
    consumer.committed.side_effect = [LOADS, [refused], [found]]
    assert _settled() == [found]
    assert consumer.close.call_count == 1


def test_a_coordinator_that_never_comes_is_not_waited_for_longer_than_asked(consumer: Mock) -> None:
    """Its error is raised."""
    consumer.committed.side_effect = LOADS
    with pytest.raises(KafkaException, match="NOT_COORDINATOR"):
        _settled(0.1)
    assert consumer.committed.call_count > 1
    assert all(call.kwargs["timeout"] <= 0.1 for call in consumer.committed.call_args_list)


def test_what_does_not_pass_is_raised_at_once(consumer: Mock) -> None:
    """Such as a right that is missing."""
    consumer.committed.side_effect = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaException, match="GROUP_AUTHORIZATION_FAILED"):
        _settled()
    assert consumer.committed.call_count == 1
