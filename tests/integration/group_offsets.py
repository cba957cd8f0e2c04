"""Settled offsets of a test's own."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition


def settle(address: str, group: str, offsets: list[TopicPartition]) -> None:
    """Commit these for a group without members; a broker that has just started may still load its offsets."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group})
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                consumer.commit(offsets=offsets, asynchronous=False)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    finally:
        consumer.close()
