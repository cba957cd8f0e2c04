"""A job of this console's: how far it is, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

# What this console knows better than the topics do.
OWN: Final = ("state", "moved", "total", "per_s", "eta_s", "here", "cancelled_by")


@dataclass(slots=True)
class JobState:
    """A job of this console's, under way or ended. `moved` counts what this start of it moved, `total` what it is to
    move, and `before` what its earlier starts did."""

    job: str
    action: str
    digest: str
    by: str
    total: int
    before: int
    rate_per_s: float | None
    refused: int
    wanted: Mapping[str, Any]
    moved: int = 0
    state: Literal["running", "done", "failed", "stopped"] = "running"
    error: str = ""
    cancelled_by: str = ""
    began_ms: int = field(default_factory=lambda: now_ms())
    ended_ms: int | None = None
    began_s: float = field(default_factory=time.monotonic)

    def document(self) -> dict[str, Any]:
        """In the words of `Start.document`."""
        running = self.state == "running"
        took_s = time.monotonic() - self.began_s
        per_s = self.moved / took_s if running and self.moved and took_s > 0 else None
        return {
            "job": self.job,
            "action": self.action,
            "by": self.by,
            "began": _text(self.began_ms),
            "ended": None if self.ended_ms is None else _text(self.ended_ms),
            "state": self.state,
            "moved": self.before + self.moved,
            "total": self.before + self.total,
            "refused": self.refused,
            "per_s": per_s,
            "limit_per_s": self.rate_per_s,
            "eta_s": (self.total - self.moved) / per_s if per_s else None,
            "outcome": self.error,
            "digest": self.digest,
            "wanted": dict(self.wanted),
            "here": True,
            "cancelled_by": self.cancelled_by,
        }


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
