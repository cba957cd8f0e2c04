"""How fast the demo sends: bursts that grow until they tell what this machine can do, then half of that, then all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Each burst is twice the one before. The first ones warm up the models and wait for transactions more than for them.
FIRST_BURST = 32
LEAST_BURSTS = 3
LONG_ENOUGH_S = 1.0
LIVE_S = 10.0
MEASURED_SHARE = 3  # at most a third of the records measures the capacity, and at most a third is live traffic


@dataclass(frozen=True, slots=True)
class Burst:
    """Records that were sent at once, and how long the slowest pipeline took to answer all of them."""

    records: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Records a second."""
        return self.records / max(self.seconds, 1e-3)


@dataclass(frozen=True, slots=True)
class Course:
    """What was sent how, as numbers of records in the script: those of `live` at `live_per_s`, which shows latency,
    those of `burst` all at once, which shows throughput. `capacity_per_s` is what the machine was found to bear."""

    capacity_per_s: float
    live_per_s: int
    live: range
    burst: range


def next_burst(bursts: Sequence[Burst], records: int) -> int:
    """How many of the script's `records` to send next in order to measure; 0 when the last burst tells the capacity."""
    room = records // MEASURED_SHARE
    if not bursts:
        return max(1, min(FIRST_BURST, room // ((1 << LEAST_BURSTS) - 1)))
    if len(bursts) >= LEAST_BURSTS and bursts[-1].seconds >= LONG_ENOUGH_S:
        return 0
    size = 2 * bursts[-1].records
    return size if sum(burst.records for burst in bursts) + size <= room else 0


def course(bursts: Sequence[Burst], sent: int, records: int) -> Course:
    """What becomes of the script's `records` of which `sent` are sent: live traffic for `LIVE_S`, and the rest."""
    capacity_per_s = bursts[-1].per_s
    live_per_s = max(1, int(capacity_per_s / 2))
    live = max(1, min(int(live_per_s * LIVE_S), (records - sent) // 2))
    return Course(round(capacity_per_s, 1), live_per_s, range(sent, sent + live), range(sent + live, records))
