"""Many seeds, over several processes, and what they add up to."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.simulation.judge import ViolationError
from streamer.simulation.life import Outcome, live

CHUNK = 50


@dataclass(slots=True)
class Summary:
    """What a range of seeds did. `faults` counts strikes, `seeds_with` the seeds that a kind struck in (poison too)."""

    seeds: int = 0
    records: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    seconds: float = 0.0
    rebalances: int = 0
    fewest_records: int = 1 << 30
    fewest_faults: int = 1 << 30
    faults: Counter[str] = field(default_factory=Counter)
    seeds_with: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    first_failing: int | None = None

    @property
    def seeds_per_s(self) -> float:
        """How many seeds ran in a second of wall time."""
        return self.seeds / self.seconds if self.seconds else 0.0

    def add(self, outcome: Outcome) -> None:
        """Count a seed."""
        self.seeds += 1
        self.records += outcome.records
        self.steps += outcome.steps
        self.virtual_s += outcome.virtual_s
        self.rebalances += outcome.rebalances
        self.fewest_records = min(self.fewest_records, outcome.records)
        self.fewest_faults = min(self.fewest_faults, sum(outcome.faults.values()))
        self.faults.update(outcome.faults)
        self.seeds_with.update(outcome.faults.keys())
        self.outcomes.update(outcome.outcomes)

    def failed(self, violation: ViolationError) -> None:
        """Count a seed that broke a law."""
        self.seeds += 1
        if self.first_failing is None or violation.seed < self.first_failing:
            self.first_failing = violation.seed
            self.violations.insert(0, str(violation))
        else:
            self.violations.append(str(violation))

    def merge(self, other: Summary) -> None:
        """Add another range's."""
        self.seeds += other.seeds
        self.records += other.records
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.rebalances += other.rebalances
        self.fewest_records = min(self.fewest_records, other.fewest_records)
        self.fewest_faults = min(self.fewest_faults, other.fewest_faults)
        self.faults.update(other.faults)
        self.seeds_with.update(other.seeds_with)
        self.outcomes.update(other.outcomes)
        if other.first_failing is not None and (self.first_failing is None or other.first_failing < self.first_failing):
            self.first_failing = other.first_failing
            self.violations = other.violations + self.violations
        else:
            self.violations += other.violations


def simulate(
    seeds: int, first: int = 0, processes: int = 1, progress: Callable[[Summary], None] = lambda _: None
) -> Summary:
    """Run so many seeds from `first` on. With one process it all happens in this one."""
    began = time.monotonic()
    summary = Summary()
    ranges = [range(at, min(at + CHUNK, first + seeds)) for at in range(first, first + seeds, CHUNK)]

    def merge(part: Summary) -> None:
        summary.merge(part)
        summary.seconds = time.monotonic() - began
        progress(summary)

    if processes == 1:
        for some in ranges:
            merge(run_range(some))
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for part in pool.imap_unordered(run_range, ranges):
                merge(part)
    return summary


def run_range(seeds: range) -> Summary:
    """Run these seeds here, one after the other, also past violations."""
    summary = Summary()
    for seed in seeds:
        try:
            summary.add(live(seed))
        except ViolationError as violation:
            summary.failed(violation)
    return summary
