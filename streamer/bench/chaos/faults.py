"""The faults: each strikes a victim of the seed's choice, heals, and notes the time to recovery."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from streamer.bench.bench import PIPELINE
from streamer.bench.chaos.members import Member
from streamer.bench.chaos.scene import RECOVER_S, Scene
from streamer.bench.program import BenchError
from streamer.kafka.errors import answer
from streamer.kafka.topics import connect
from streamer.local import LocalProcess

SESSION_S = 10.0
TRANSACTION_S = 10.0
ABORT_SCAN_S = 10.0
LEASE_S = 5.0
LEADER_S = 15.0
END_TXN = 26
"""The api key of the request that ends a transaction: https://kafka.apache.org/protocol#protocol_api_keys"""


Strike = Callable[[Scene, random.Random, str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. `within_s` is what its recovery may take; `light` ones may strike beside others."""

    kind: str
    strike: Strike
    within_s: float | None = None
    light: bool = False


# --- members -------------------------------------------------------------------------------------------------------


def kill_member(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGKILL, and started again at once."""
    member = scene.owner(rng)
    partitions = member.owned()
    at = time.monotonic()
    member.kill()
    member.start()
    scene.note(kind, member.slot, at, partitions)


def kill_member_for_long(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGKILL, and started again when the others have recovered."""
    member = scene.owner(rng)
    partitions = set(member.owned())
    at, wall = time.monotonic(), time.time()
    member.kill()
    incident = scene.note(kind, member.slot, at, partitions)
    given = [each.given() for each in scene.members]
    times = [max((own[partition] for own in given if partition in own), default=0.0) for partition in partitions]
    incident.took_over_s = max(times) - wall if min(times) > wall else RECOVER_S
    member.start()
    _await_return(scene, member)


def freeze_member(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGSTOP past the session timeout, then SIGCONT: a zombie that believes to own what others own by now."""
    member = scene.owner(rng)
    partitions = member.owned()
    at = time.monotonic()
    member.signal(signal.SIGSTOP)
    scene.rest(SESSION_S + rng.uniform(1, 6))
    thawed_at = time.monotonic()
    member.signal(signal.SIGCONT)
    scene.note(kind, member.slot, at, partitions)
    scene.note(THAWED, member.slot, thawed_at, scene.all_partitions)


def isolate_member(scene: Scene, rng: random.Random, kind: str) -> None:
    """All of its connections to the brokers blackholed past the session timeout, while it goes on."""
    member = scene.owner(rng)
    partitions = member.owned()
    at = time.monotonic()
    for proxy in member.link:
        proxy.blackhole()
    scene.rest(SESSION_S + rng.uniform(1, 6))
    for proxy in member.link:
        proxy.forward()
    scene.note(kind, member.slot, at, partitions)


def _await_return(scene: Scene, member: Member) -> None:
    if not scene.wait(lambda: bool(member.owned()), RECOVER_S):
        raise BenchError(f"{member.slot} got no partition within {RECOVER_S:.0f} s of its start")


def lose_commit(scene: Scene, rng: random.Random, kind: str) -> None:
    """The link to the coordinator cut at a commit, before the request gets through."""
    _cut_at_commit(scene, rng, kind, deliver=False)


def lose_commit_answer(scene: Scene, rng: random.Random, kind: str) -> None:
    """The link to the coordinator cut at a commit, once the request is through: its end is unclear to the member."""
    _cut_at_commit(scene, rng, kind, deliver=True)


def _cut_at_commit(scene: Scene, rng: random.Random, kind: str, *, deliver: bool) -> None:
    member = scene.owner(rng)
    partitions = member.owned()
    for proxy in member.link:
        proxy.cut_at(END_TXN, deliver=deliver)
    sprung = scene.wait(lambda: any(proxy.sprung.is_set() for proxy in member.link), RECOVER_S)
    at = time.monotonic()
    for proxy in member.link:
        if not proxy.sprung.is_set():
            proxy.forward()
    scene.rest(rng.uniform(0, 5))
    for proxy in member.link:
        proxy.forward()
    if not sprung:
        raise BenchError(f"{member.slot} ended no transaction for {RECOVER_S:.0f} s")
    scene.note(kind, member.slot, at, partitions)


# --- workers -------------------------------------------------------------------------------------------------------


def kill_worker(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGKILL."""
    member = scene.owner(rng)
    partitions = member.owned()
    if (pid := _worker(scene, member)) is not None:
        at = time.monotonic()
        _send(pid, signal.SIGKILL)
        scene.note(kind, f"{member.slot}'s worker", at, partitions)


def freeze_worker(scene: Scene, rng: random.Random, kind: str) -> None:
    """SIGSTOP past the lease, then SIGCONT, if its driver has not killed it by then."""
    member = scene.owner(rng)
    partitions = member.owned()
    if (pid := _worker(scene, member)) is not None:
        at = time.monotonic()
        _send(pid, signal.SIGSTOP)
        scene.rest(LEASE_S * rng.uniform(0.5, 1.5))
        if pid in member.worker_pids():
            _send(pid, signal.SIGCONT)
        scene.note(kind, f"{member.slot}'s worker", at, partitions)


def write_deadly_record(scene: Scene, rng: random.Random, kind: str) -> None:
    """A record that kills each worker that computes it."""
    member = scene.owner(rng)
    partitions = member.owned()
    before = len(scene.watcher.dead)
    _worker(scene, member)
    pids = set(member.worker_pids())
    at = time.monotonic()
    scene.writer.write_deadly(rng.choice(sorted(partitions)))

    def buried() -> bool:
        pids.update(member.worker_pids())
        return len(scene.watcher.dead) > before

    scene.wait(buried, RECOVER_S)
    incident = scene.note(kind, f"{member.slot}'s workers", at, partitions)
    pids.update(member.worker_pids())
    incident.deaths = len(pids) - 1


def _worker(scene: Scene, member: Member) -> int | None:
    """A worker of this member; None when it has none for long, since the member itself went away meanwhile."""
    found: list[int] = []

    def some() -> bool:
        found[:] = member.worker_pids()
        return bool(found)

    return found[0] if scene.wait(some, SESSION_S) else None


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


# --- brokers, topics -----------------------------------------------------------------------------------------------


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
    """Again while the brokers can't say who leads the partition: its leader may just be gone. With a new client: one
    that has asked about the topic before knows no partition that was added since (seen with librdkafka 2.16.1)."""
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


RESTARTED = "member killed, started again"
AWAY = "member killed, stays away"
THAWED = "member thawed"
DEADLY = "record that kills workers"
READABLE_S = TRANSACTION_S + ABORT_SCAN_S + 3
"""What the dead left open holds up readers until the broker ends it; the session times out meanwhile."""

FAULTS: Sequence[Fault] = (
    Fault(RESTARTED, kill_member),
    Fault(AWAY, kill_member_for_long, READABLE_S),
    Fault("member frozen", freeze_member, READABLE_S),
    Fault("member isolated", isolate_member, READABLE_S),
    Fault("commit request cut off", lose_commit),
    Fault("commit answer cut off", lose_commit_answer),
    Fault("worker killed", kill_worker, 5.0, light=True),
    Fault("worker frozen", freeze_worker, LEASE_S + 5.0, light=True),
    Fault(DEADLY, write_deadly_record),
    Fault("broker killed", kill_broker, 20.0),
    Fault("group coordinator killed", kill_group_coordinator, 20.0),
    Fault("broker frozen", freeze_broker, 20.0),
    Fault("partitions added", add_partition),
    Fault("records deleted by retention", delete_records),
    Fault("Redis stopped", stop_redis, light=True),
    Fault("Redis blackholed", blackhole_redis, light=True),
    Fault("Redis slowed", slow_redis, light=True),
)
