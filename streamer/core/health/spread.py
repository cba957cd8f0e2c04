"""Spread: how far windows of a baseline lay apart, once single windows and again groups of them. What grows with the
group does not average out in a longer window either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

Row = tuple[int, int, list[float]]
"""Of a window: its number in time, its records, and the records in each bin."""

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


def spreads_of(rows: Sequence[Row], expected: Sequence[float], *, is_ratio: bool = False) -> list[Spread]:
    """The spread for each size of group of which there are enough."""
    spreads = [spread_of(rows, size, expected, is_ratio) for size in GROUPS]
    return [spread for spread in spreads if spread.groups >= LEAST_GROUPS]


def spread_of(rows: Sequence[Row], size: int, expected: Sequence[float], is_ratio: bool = False) -> Spread:
    """The spread between groups of so many windows around the shares that are expected, or the ratio. A group may lack
    some of its windows, not most of them."""
    grouped: defaultdict[int, list[tuple[int, list[float]]]] = defaultdict(list)
    for block, records, row in rows:
        grouped[block // size].append((records, row))
    squares = [0.0] * len(expected)
    groups = total = 0
    for members in grouped.values():
        records = sum(count for count, _ in members)
        if 2 * len(members) < size or not records:
            continue
        groups += 1
        total += records
        sums = (
            members[0][1] if size == 1 else [sum(column) for column in zip(*(row for _, row in members), strict=True)]
        )
        if is_ratio:
            squares[0] += (sums[0] - expected[0] * sums[1]) ** 2 / records
        else:
            for at, share in enumerate(expected):
                squares[at] += (sums[at] - share * records) ** 2 / records
    free = max(groups - 1, 1)
    return Spread(
        round(total / max(groups, 1), 1), groups, [float(f"{square / free:.{_DIGITS}g}") for square in squares]
    )


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
