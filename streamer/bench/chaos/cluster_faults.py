"""Faults of brokers, topics and Redis."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from streamer.bench.chaos.scene import SESSION_S, Scene
from streamer.bench.harness.bench import PIPELINE
from streamer.kafka.errors import answer
from streamer.kafka.topics import connect
from streamer.local import LocalProcess

LEADER_S = 15.0


def kill_broker(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGKILL, started again after a while."""
    _kill_broker(scene, rng.choice(scene.stack.kafka_processes), kind, rng.uniform(1, 8))


def kill_group_coordinator(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGKILL of the broker that holds the group's offsets, started again when it is out of the clients' metadata."""
    group = scene.setup.config.pipelines[PIPELINE].group
    # A client that knew a coordinator which is gone may wait for it for ever: a new client for each question.
    admin = connect(scene.setup.config.kafka)
    coordinator = admin.describe_consumer_groups([group])[group].result().coordinator
    _kill_broker(scene, scene.stack.kafka_processes[coordinator.id - 1], kind, rng.uniform(8, 14))


def _kill_broker(scene: Scene, broker: LocalProcess, kind: str, away_s: float) -> None:
    at = time.monotonic()
    broker.kill()
    scene.rest(away_s)
    broker.launch()
    scene.note(kind, broker.name, at, scene.all_partitions)
    broker.wait_ready()
    scene.await_in_sync()


def freeze_broker(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGSTOP past the broker's session with the controllers, then SIGCONT."""
    broker: LocalProcess = rng.choice(scene.stack.kafka_processes)
    at = time.monotonic()
    broker.pause()
    scene.rest(rng.uniform(5, 12))
    broker.resume()
    scene.note(kind, broker.name, at, scene.all_partitions)
    scene.await_in_sync()


def add_partition(scene: Scene, rng: random.Random, kind: str) -> None:
    """One or two more for the outputs and the input, in this order: an outcome goes to its record's partition."""
    before = scene.writer.partitions
    count = before + rng.randint(1, 2)
    pipeline = scene.setup.config.pipelines[PIPELINE]
    for topic in (pipeline.output, pipeline.dead_letter, scene.setup.input):
        scene.admin.create_partitions([NewPartitions(topic, count)])[topic].result()
    scene.watcher.widen(count)
    at = time.monotonic()
    scene.writer.widen(count)
    scene.note(kind, f"{count} partitions", at, range(before, count))


def delete_records(scene: Scene, rng: random.Random, kind: str) -> None:
    """Retention passes the committed offset of a partition while its owner is frozen for a moment."""
    member = scene.owner(rng)
    partition = rng.choice(sorted(member.owned()))
    at = time.monotonic()
    member.signal(signal.SIGSTOP)
    first = scene.writer.last_offsets[partition]
    scene.rest(SESSION_S * rng.uniform(0.2, 0.4))
    offset = first + round((scene.writer.last_offsets[partition] - first) * rng.uniform(0.3, 0.9))
    place = TopicPartition(scene.setup.input, partition, offset)
    scene.deleted[partition] = offset
    try:
        _delete_before(scene, place)
    finally:
        member.signal(signal.SIGCONT)
    scene.note(kind, f"{scene.setup.input}/{partition}", at, [partition])


def _delete_before(scene: Scene, place: TopicPartition) -> None:
    """Delete the records before a place, and try again while the brokers can't say who leads the partition. It takes a
    new client: one that has asked about the topic before knows no partition added since (seen with librdkafka 2.16.1).
    """
    admin = connect(scene.setup.config.kafka)
    deadline = time.monotonic() + LEADER_S
    while True:
        try:
            for future in admin.delete_records([place]).values():
                answer(future)
            return
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


# --- Redis ---------------------------------------------------------------------------------------------------------


def stop_redis(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGKILL, started again, empty, after a while."""
    redis = scene.stack.redis_process
    assert redis is not None
    at = time.monotonic()
    redis.kill()
    scene.note(kind, redis.name, at, scene.all_partitions)
    scene.rest(rng.uniform(1, 4))
    redis.launch()
    redis.wait_ready()


def blackhole_redis(scene: Scene, rng: random.Random, kind: str) -> None:
    """Connections stay open and nothing comes back."""
    _hinder_redis(scene, rng, kind, scene.redis.blackhole)


def slow_redis(scene: Scene, rng: random.Random, kind: str) -> None:
    """Everything takes 200 ms more each way."""
    _hinder_redis(scene, rng, kind, lambda: scene.redis.slow(0.2))


def _hinder_redis(scene: Scene, rng: random.Random, kind: str, hinder: Callable[[], None]) -> None:
    at = time.monotonic()
    hinder()
    scene.note(kind, "Redis", at, scene.all_partitions)
    scene.rest(rng.uniform(1, 4))
    scene.redis.forward()
