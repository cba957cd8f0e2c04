"""Faults of members, of their links to the brokers, and of their workers."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

from streamer.bench.chaos.members import Member
from streamer.bench.chaos.scene import LEASE_S, RECOVER_S, SESSION_S, Scene
from streamer.bench.harness.program import BenchError

THAWED = "member thawed"
END_TXN = 26
"""The api key of the request that ends a transaction: https://kafka.apache.org/protocol#protocol_api_keys"""


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
