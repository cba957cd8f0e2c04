"""What the operator chose, as the core needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamer.core.pipeline.breaker import BreakerPolicy
from streamer.core.trace_sampler import TraceSampler


@dataclass(frozen=True, slots=True)
class Policy:
    """One pipeline's settings. `lru_bytes` 0 is no cache in memory; `shared_cache` says whether to ask a shared one.

    `settings` are those that may change an answer: they are part of every cache key.
    """

    name: str
    workers: int = 1
    lease_s: float = 60.0
    load_s: float = 900.0
    budget_bytes: int = 64 << 20
    lru_bytes: int = 0
    shared_cache: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    max_spans_per_s: int = 500
    traced: bool = False
    until_end: bool = False
    sampler: TraceSampler = field(default_factory=TraceSampler)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
