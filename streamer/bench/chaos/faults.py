"""All faults. Each strikes a victim of the seed's choice, heals, and notes the time to recovery."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.bench.chaos import cluster_faults, member_faults
from streamer.bench.chaos.scene import LEASE_S, Scene

TRANSACTION_S = 10.0
ABORT_SCAN_S = 10.0

Strike = Callable[[Scene, random.Random, str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. `within_s` is what its recovery may take; `light` ones may strike beside others."""

    kind: str
    strike: Strike
    within_s: float | None = None
    light: bool = False


RESTARTED = "member killed, started again"
AWAY = "member killed, stays away"
DEADLY = "record that kills workers"
READABLE_S = TRANSACTION_S + ABORT_SCAN_S + 3
"""What the dead left open holds up readers until the broker ends it; the session times out meanwhile."""

FAULTS: Sequence[Fault] = (
    Fault(RESTARTED, member_faults.kill_member),
    Fault(AWAY, member_faults.kill_member_for_long, READABLE_S),
    Fault("member frozen", member_faults.freeze_member, READABLE_S),
    Fault("member isolated", member_faults.isolate_member, READABLE_S),
    Fault("commit request cut off", member_faults.lose_commit),
    Fault("commit answer cut off", member_faults.lose_commit_answer),
    Fault("worker killed", member_faults.kill_worker, 5.0, light=True),
    Fault("worker frozen", member_faults.freeze_worker, LEASE_S + 5.0, light=True),
    Fault(DEADLY, member_faults.write_deadly_record),
    Fault("broker killed", cluster_faults.kill_broker, 20.0),
    Fault("group coordinator killed", cluster_faults.kill_group_coordinator, 20.0),
    Fault("broker frozen", cluster_faults.freeze_broker, 20.0),
    Fault("partitions added", cluster_faults.add_partition),
    Fault("records deleted by retention", cluster_faults.delete_records),
    Fault("Redis stopped", cluster_faults.stop_redis, light=True),
    Fault("Redis blackholed", cluster_faults.blackhole_redis, light=True),
    Fault("Redis slowed", cluster_faults.slow_redis, light=True),
)
