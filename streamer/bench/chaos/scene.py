"""What the faults strike: the cluster, the members and the traffic; and how recovery is told.

Recovered is a partition when a read_committed reader has the result of an event that was sent *after* the strike; since
results come in order, all that were sent before it are readable then too. Of several partitions the last one counts.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.bench.chaos.members import Member
from streamer.bench.chaos.workload import EventWriter, Watcher
from streamer.bench.harness.bench import Setup
from streamer.bench.harness.program import BenchError
from streamer.bench.harness.proxy import Proxy
from streamer.local import Stack

RECOVER_S = 120.0
SESSION_S = 10.0
LEASE_S = 5.0
IN_SYNC_S = 90.0
POLL_S = 0.01


@dataclass(slots=True)
class Incident:
    """One fault. `recovered_s` is RECOVER_S when it did not recover; `took_over_s` is when others owned all partitions
    of a member that stays away; `deaths` how many workers a deadly record took with it."""

    kind: str
    victim: str
    recovered_s: float
    in_storm: bool
    took_over_s: float | None = None
    deaths: int | None = None


@dataclass(slots=True)
class Scene:
    """What the faults strike, and what they leave behind."""

    stack: Stack
    admin: AdminClient
    setup: Setup
    members: list[Member]
    redis: Proxy
    writer: EventWriter
    watcher: Watcher
    incidents: list[Incident] = field(default_factory=list)
    deleted: dict[int, int] = field(default_factory=dict)
    stormy: bool = False
    _home: int = field(default_factory=threading.get_ident)

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether the condition came true; looks after the members meanwhile."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.tend()
            time.sleep(POLL_S)
        return True

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.wait(lambda: False, seconds)

    def tend(self) -> None:
        """Start members again that have ended by themselves."""
        if threading.get_ident() == self._home:
            for member in self.members:
                member.tend()

    def note(self, kind: str, victim: str, at: float, partitions: Iterable[int]) -> Incident:
        """Wait for the recovery of these partitions from what happened at `at`, and write it down."""
        waiting = set(partitions)
        stormy = self.stormy
        last = at

        def recovered() -> bool:
            nonlocal last
            for partition in list(waiting):
                seen = self.watcher.seen_after(partition, at)
                if seen is not None:
                    waiting.discard(partition)
                    last = max(last, seen)
            return not waiting

        in_time = self.wait(recovered, RECOVER_S)
        incident = Incident(kind, victim, last - at if in_time else RECOVER_S, stormy or self.stormy)
        self.incidents.append(incident)
        return incident

    @property
    def all_partitions(self) -> range:
        """All partitions of the input."""
        return range(self.writer.partitions)

    def await_in_sync(self) -> None:
        """Wait until all brokers run and all replicas are in sync, so that the next fault meets a whole cluster."""

        def in_sync() -> bool:
            for broker in self.stack.kafka_processes:
                if not broker.running:
                    raise BenchError(f"{broker.name} has ended by itself; see {broker.log_path}")
            try:
                topics = self.admin.list_topics(timeout=2).topics.values()
            except KafkaException:
                return False
            return all(len(each.isrs) == len(each.replicas) for topic in topics for each in topic.partitions.values())

        if not self.wait(in_sync, IN_SYNC_S):
            raise BenchError(f"the brokers' replicas were not in sync after {IN_SYNC_S:.0f} s")

    def owner(self, rng: random.Random) -> Member:
        """A member that owns partitions."""
        found: list[Member] = []

        def some() -> bool:
            found[:] = [member for member in self.members if member.wanted and member.owned()]
            return bool(found)

        if not self.wait(some, RECOVER_S):
            raise BenchError(f"no member owned a partition for {RECOVER_S:.0f} s")
        return rng.choice(found)
