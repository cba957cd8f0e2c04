"""Spread: how far windows of a baseline lay apart, once single windows and again groups of them. What grows with the
group does not average out in a longer window either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

Row = tuple[int, int, list[float]]
"""A window: its number in time, its records, and the records in each bin; for a ratio, how far its sum is above what
the ratio of all windows would make it."""

GROUPS = (1, 4, 12)
"""How many windows make a group: a window, a third of an hour and an hour for windows of five minutes."""

LEAST_GROUPS = 4

COMMON = 50
"""A bin with fewer records in the baseline says little about its own spread."""

_DIGITS = 4


class Spread(msgspec.Struct, array_like=True):
    """How far `groups` groups of `records` records in the mean lay apart: by bin, the variance a record brings."""

    records: float
    groups: int
    variance: list[float]


def spreads_of(rows: Sequence[Row], expected: Sequence[float]) -> list[Spread]:
    """The spread around the shares that are expected, for each size of group of which there are enough."""
    spreads = []
    for size in GROUPS:
        groups = list(grouped(rows, size))
        if len(groups) >= LEAST_GROUPS:
            squares = [
                sum((sums[at] - share * records) ** 2 / records for records, sums in groups)
                for at, share in enumerate(expected)
            ]
            variance = [float(f"{square / (len(groups) - 1):.{_DIGITS}g}") for square in squares]
            spreads.append(Spread(round(sum(records for records, _ in groups) / len(groups), 1), len(groups), variance))
    return spreads


def grouped(rows: Sequence[Row], size: int) -> Iterator[tuple[int, list[float]]]:
    """The records of each group of so many windows, and the records in each bin. A group may lack some of its windows,
    not most of them."""
    groups: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[0] // size].append(row)
    for members in groups.values():
        records = sum(count for _, count, _ in members)
        if 2 * len(members) >= size and records:
            yield records, [sum(column) for column in zip(*(row for *_, row in members), strict=True)]


def dispersion(spreads: Sequence[Spread], at: int, records: float, least: float) -> tuple[float, float]:
    """The variance that a record brings to a window of so many records, and the degrees of freedom behind it (by
    Welch and Satterthwaite). What windows next to each other share grows it with their size: the steepest growth
    from single windows to groups counts, and behind it stand no more independent values than there are of the largest
    groups."""
    first = spreads[0]
    slope = 0.0
    for spread in spreads[1:]:
        if spread.records > first.records:
            slope = max(slope, (spread.variance[at] - first.variance[at]) / (spread.records - first.records))
    variance = max(least, first.variance[at] + slope * (records - first.records))
    if variance <= 0:
        return 0.0, first.groups - 1
    shared = min(1.0, slope * records / variance)
    return variance, 1 / (shared**2 / (spreads[-1].groups - 1) + (1 - shared) ** 2 / (first.groups - 1))
