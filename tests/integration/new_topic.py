"""A topic that every broker knows of."""

from __future__ import annotations

import time
from uuid import uuid4

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.errors import ConfigurationError
from streamer.kafka.topics import connect, require

DEADLINE_S = 30


def new_topic(cluster: KafkaConfig, partitions: int) -> str:
    """Make a topic, and return its name once metadata have it."""
    name, admin = f"new-{uuid4().hex[:8]}", connect(cluster)
    admin.create_topics([NewTopic(name, partitions)])[name].result(DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            require(admin, cluster, name)
            return name
        except ConfigurationError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
