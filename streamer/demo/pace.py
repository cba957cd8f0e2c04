"""How fast the demo sends: so that a few records are always under way, which tells what this machine can do, then half
of that, then all."""

from __future__ import annotations

from dataclasses import dataclass, field

# Live traffic is answered in small micro-batches and transactions, and each record costs more CPU there than in large
# ones: 7.7 ms against 3.1 on two cores. So what bursts bear is no capacity for it: half of that kept 1.6 cores busy.
UNDER_WAY = 32
WARM_UP = 128  # the first records wait for first forward passes, and for a broker that compiles what they need
LONG_ENOUGH_S = 2.0
LIVE_S = 10.0
MEASURED_SHARE = 3  # at most a third of the records measures the capacity, and at most a third is live traffic


@dataclass(frozen=True, slots=True)
class Course:
    """What was sent how, as numbers of records in the script: those of `live` at `live_per_s`, which shows latency,
    those of `burst` all at once, which shows throughput. `capacity_per_s` is what the machine was found to bear."""

    capacity_per_s: float
    live_per_s: int
    live: range
    burst: range


@dataclass(slots=True)
class Gauge:
    """Finds the capacity for live traffic: how many records a second the slowest pipeline ends while `UNDER_WAY` wait.

    It starts at `start_s` and uses up to a third of the script's `records`.
    """

    records: int
    start_s: float
    per_s: float | None = None
    _room: int = field(init=False)
    _since: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        self._room = max(1, self.records // MEASURED_SHARE)

    def due(self, ended: int, now_s: float) -> int:
        """How many records to have sent when so many have ended; `per_s` is known from when the last of them ends."""
        warmed = self._since is not None
        first, since_s = self._since or (0, self.start_s)
        measured_s = now_s - since_s
        if ended >= self._room or (warmed and ended - first >= UNDER_WAY and measured_s >= LONG_ENOUGH_S):
            self.per_s = (ended - first) / max(measured_s, 1e-3)
        elif not warmed and ended >= min(WARM_UP, self._room // 4):
            self._since = ended, now_s
        return min(self._room, ended + UNDER_WAY)


def course(capacity_per_s: float, sent: int, records: int) -> Course:
    """What becomes of the script's `records` of which `sent` are sent: live traffic for `LIVE_S`, and the rest."""
    capacity_per_s = round(capacity_per_s, 1)
    live_per_s = max(1, int(capacity_per_s / 2))
    live = max(1, min(int(live_per_s * LIVE_S), (records - sent) // 2))
    return Course(capacity_per_s, live_per_s, range(sent, sent + live), range(sent + live, records))
