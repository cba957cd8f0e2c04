"""How reading one of the console's sources goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SILENT_MS: Final = 15_000  # how long a question may wait for the brokers before they count as away


@dataclass(slots=True)
class Source:
    """How reading goes. `error` is "" while it goes well, and None before the first answer. `asked_ms` is since when a
    question waits for its answer, None while none does: between two looks nobody is silent."""

    error: str | None = None
    answered_ms: int = 0
    asked_ms: int | None = None

    def is_well(self, now_ms: int) -> bool:
        """Whether it answers."""
        return self.error == "" and (self.asked_ms is None or now_ms - self.asked_ms < SILENT_MS)
