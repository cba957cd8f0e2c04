"""How a source reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """How to read. `start` is earliest, latest or milliseconds since the epoch, for partitions without an offset.
    `crash_limit` processes may die with the same record. A partition that gives nothing although there is something to
    read is looked into after `stand_s`, and sought anew after `stuck_s`."""

    topics: list[str]
    group: str = ""
    start: str | int = "earliest"
    skip_out_of_range: bool = False
    until_end: bool = False
    micro_batch_records: int = 2000
    linger_ms: float = 0.0
    budget_bytes: int = 48 << 20
    hold_s: float = 1.0
    revoke_deadline_s: float = 10.0
    crash_limit: int = 6
    stand_s: float = 20.0
    stuck_s: float = 60.0
    address: str = ""
