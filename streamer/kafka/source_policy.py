"""How a source reads."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.config.pipeline import DEFAULTS


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
    micro_batch_records: int = DEFAULTS["micro_batch_records"]
    linger_ms: float = DEFAULTS["linger_ms"]
    budget_bytes: int = 48 << 20
    hold_s: float = DEFAULTS["hold_s"]
    revoke_deadline_s: float = DEFAULTS["revoke_deadline_s"]
    crash_limit: int = DEFAULTS["crash_limit"]
    stand_s: float = 20.0
    stuck_s: float = 60.0
    address: str = ""
