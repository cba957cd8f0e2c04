"""Histograms: sparse lists of `[upper bound, count]` over `BOUNDS`. A value counts at the first bound that is not below
it, one beyond the last bound at the last."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

# Ten a decade (the Renard series R10), whole numbers, from 1 to 10^8: 28 hours in ms, 100 million characters.
BOUNDS: tuple[int, ...] = tuple(sorted({round(10 ** (step / 10)) for step in range(81)}))


class Histogram(msgspec.Struct):
    """Counts by upper bound, with the exact sum and largest value."""

    counts: list[tuple[int, int]]
    sum: int
    max: int


def percentile(counts: Mapping[int, int], share: float, largest: int) -> int | None:
    """The upper bound of the bin in which this share of all values is reached, at most the largest value; None for no
    values."""
    needed = share * sum(counts.values())
    reached = 0
    for bound in sorted(counts):
        reached += counts[bound]
        if reached >= needed:
            return min(bound, largest)
    return None


class IntegerCounts:
    """Counts of whole numbers that become a histogram."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, values: Iterable[int]) -> None:
        """Count each of these."""
        self._counts.update(values)

    def add_counts(self, counts: dict[int, int]) -> None:
        """Count values so many times each."""
        self._counts.update(counts)

    def histogram(self) -> Histogram:
        """The histogram of all that was counted."""
        binned: Counter[int] = Counter()
        total = 0
        last = len(BOUNDS) - 1
        for value, count in self._counts.items():
            binned[BOUNDS[min(bisect_left(BOUNDS, value), last)]] += count
            total += value * count
        return Histogram(sorted(binned.items()), total, max(self._counts, default=0))
