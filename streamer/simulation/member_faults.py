"""Faults of members: they come and go, are killed, lose their session or their slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from streamer.core.record import TopicPartition
from streamer.simulation.process import Process, World
from streamer.testing import Group

STOP_WITHIN_S = 3.0


class Life(Protocol):
    """What a fault may reach."""

    world: World
    faults: Counter[str]

    def running(self) -> list[Process]: ...
    def visitor(self) -> Process | None: ...
    def rival(self, process: Process) -> None: ...


Fault = Callable[[Life], bool]


class Passer:
    """A member without a pipeline: it joins, takes part, and leaves; the others rebalance."""

    def __init__(self, world: World, stay_s: float) -> None:
        self._world = world
        self._group: Group = world.group
        self._owned: frozenset[TopicPartition] = frozenset()
        self._gone = False
        self.member = self._group.join(self, None, self._owned)
        world.clock.later(stay_s, self._leave)

    def on_rebalance(self, member: str) -> None:
        self._world.clock.later(self._world.latency(0.02), self._rejoin)

    def on_sync(self, member: str, generation: int, assignment: frozenset[TopicPartition]) -> None:
        gives_up = self._owned - assignment
        self._owned = assignment
        if gives_up:
            self._world.clock.later(self._world.latency(0.02), self._rejoin)

    def on_expelled(self, member: str) -> None:
        self._gone = True

    def on_fenced(self, member: str) -> None:
        """It has no instance id that anybody could take."""

    def _rejoin(self) -> None:
        if not self._gone:
            self._group.join(self, self.member, self._owned)

    def _leave(self) -> None:
        self._gone = True
        self._group.leave(self.member)


def some(life: Life) -> Process | None:
    """One of the members that live."""
    running = life.running()
    return life.world.rng.choice(running) if running else None


def join(life: Life) -> bool:
    """A third member comes, works, and is stopped after a while."""
    process = life.visitor()
    if process is None:
        return False
    life.world.clock.later(0.5 + life.world.rng.random() * 2, lambda: process.stop(STOP_WITHIN_S))
    return True


def leave(life: Life) -> bool:
    """A member gets a stop signal; its supervisor starts it again."""
    process = some(life)
    if process is None or process.stopping:
        return False
    process.stop(STOP_WITHIN_S)
    return True


def rebalances(life: Life) -> bool:
    """Three rebalances in a row."""
    world = life.world
    for number in range(3):
        world.clock.later(0.08 * number, lambda: Passer(world, 0.02 + world.rng.random() * 0.2))
    return True


def lost(life: Life) -> bool:
    """A member misses its session timeout and learns it late."""
    process = some(life)
    return process is not None and _expel(life, process, life.world.rng.choice((0.01, 0.2, 1.0)))


def _expel(life: Life, process: Process, learns_after_s: float) -> bool:
    member = process.source.member
    if member.id not in life.world.group.members:
        return False
    usual_s, member.network_s = member.network_s, learns_after_s
    life.world.group.expel(member.id)
    member.network_s = usual_s
    return True


def killed(life: Life) -> bool:
    """kill -9 of a process; the same slot starts again."""
    process = some(life)
    if process is None:
        return False
    process.kill()
    return True


def killed_in_transaction(life: Life) -> bool:
    """kill -9 while a transaction is open."""
    for process in life.running():
        if life.world.log.in_transaction(process.transactional_id):
            process.kill()
            return True
    return False


def killed_in_revoke(life: Life) -> bool:
    """kill -9 of a process that was just told to give up partitions: it had got those of another, which comes back."""
    running = life.running()
    if len(running) < 2 or not _expel(life, running[0], 0.2):
        return False
    running[1].killed_by_revoke = True
    return True


def usurped(life: Life) -> bool:
    """A second process starts under a slot that is taken; the older one has to go."""
    process = some(life)
    if process is None or process.rivalled or process.source.member.id is None:
        return False
    life.rival(process)
    return True
