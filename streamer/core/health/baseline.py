"""Baselines: what a monitor's sums were when all was well, and how far windows of that time lay apart.

Records are not independent. What comes together is alike, and an hour has its topic. So the spread between windows is
measured, not assumed: once between single windows and again between groups of them. What grows with the group
does not average out in a longer window either.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

import msgspec

from streamer.core.health.gtest import smoothed
from streamer.core.health.monitors import MONITORS, Binning, Kind, Measures, Sums

W = TypeVar("W", bound=Measures)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SEASON_DAYS = 7

GROUPS = (1, 4, 12)
"""How many windows make a group: a window, a third of an hour and an hour for windows of five minutes."""

LEAST_WINDOWS = 10
"""Fewer windows do not tell how far they lie apart."""

LEAST_GROUPS = 4

COMMON = 50
"""A bin with fewer records in the baseline says little about its own spread."""

LEAST_SHARE: dict[Kind, float] = {"categories": 0.01, "histogram": 0.02}

_DIGITS = 4


class Spread(msgspec.Struct, array_like=True):
    """How far `groups` groups of `records` records in the mean lay apart: by bin, the variance a record brings."""

    records: float
    groups: int
    variance: list[float]


class Reference(msgspec.Struct):
    """A monitor's sums in the baseline, the cut into bins that was taken from them, the records in each bin, and the
    spread for each size of group. `design_effect` is how often the variance within a window is that of independent
    records, over all common bins: 1 or more. `independence` is 1 where bins move each for itself, and the less the more
    they move together."""

    sums: Sums
    cut: Binning
    bins: list[float]
    spreads: list[Spread]
    design_effect: float = 1.0
    independence: float = 1.0

    @property
    def ratio(self) -> float:
        """Of a ratio: its value."""
        return self.sums.ratio

    @staticmethod
    def of(kind: Kind, read: Sequence[tuple[int, Sums]]) -> Reference:
        """Learn from what was read of windows, each with its number in time."""
        keys = dict.fromkeys(chain.from_iterable(sums.counts for _, sums in read))
        total = Sums(
            sum(sums.records for _, sums in read),
            {key: sum(sums.counts.get(key, 0) for _, sums in read) for key in keys},
        )
        cut, counts = Binning(), list[float]()
        if kind == "ratio":
            rows = [(block, sums.records, [sums.counts["sum"], sums.counts["of"]]) for block, sums in read]
            expected = [total.ratio]
        else:
            cut = Binning.of(kind, total, LEAST_SHARE[kind])
            counts = cut.bins(total)
            rows = [(block, sums.records, cut.bins(sums)) for block, sums in read]
            expected = [count / total.records for count in counts]
        spreads = [_spread(rows, size, expected, kind == "ratio") for size in GROUPS]
        spreads = [spread for spread in spreads if spread.groups >= LEAST_GROUPS]
        independence = 1.0 if kind == "ratio" else _independence(rows, expected, counts, spreads[0].variance)
        return Reference(total, cut, counts, spreads, _design_effect(counts, spreads), independence)


class Baseline(msgspec.Struct):
    """What windows are held against. `revision` is empty where windows of several models stand behind it: then it
    judges only what comes in. `references` have as many tables as the monitor reads. `hours` of the day (UTC) are those
    that have a window."""

    pipeline: str
    revision: str
    since_ms: int
    until_ms: int
    windows: int
    references: dict[str, list[Reference]]
    hours: list[int] = []

    @staticmethod
    def of(windows: Iterable[Measures]) -> Baseline | None:
        """Learn from windows of one pipeline and of one length, in any order; None from too few."""
        found = sorted((window for window in windows if window.results), key=lambda window: window.start_ms)
        if len(found) < LEAST_WINDOWS:
            return None
        revisions = {window.revision for window in found}
        references = {}
        for monitor in MONITORS:
            if monitor.of_model and len(revisions) > 1:
                continue
            read = [(window.start_ms // window.length_ms, monitor.read(window)) for window in found]
            tables = max(len(sums) for _, sums in read)
            told = [(block, sums) for block, sums in read if tables and len(sums) == tables]
            if len(told) >= LEAST_WINDOWS:
                references[monitor.name] = [
                    Reference.of(monitor.kind, [(block, sums[table]) for block, sums in told])
                    for table in range(tables)
                ]
        last = found[-1]
        return Baseline(
            pipeline=last.pipeline,
            revision=last.revision if len(revisions) == 1 else "",
            since_ms=found[0].start_ms,
            until_ms=last.start_ms + last.length_ms,
            windows=len(found),
            references=references,
            hours=sorted({_hour(one.start_ms) for one in found}),
        )

    @property
    def covers_a_day(self) -> bool:
        """Whether it has seen a day. A shorter one takes the evening for drift, and alarms without end."""
        return self.until_ms - self.since_ms >= DAY_MS - HOUR_MS

    def knows(self, start_ms: int) -> bool:
        """Whether a move of a window that starts then is more than the hour of the day: it covers a week, or a day and
        that hour."""
        return self.covers_a_week or (self.covers_a_day and _hour(start_ms) in self.hours)

    @property
    def covers_a_week(self) -> bool:
        """Whether the patterns of days and of a week are in its spread; a shorter one takes them for drift."""
        return self.until_ms - self.since_ms >= SEASON_DAYS * DAY_MS - HOUR_MS

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(encoded: bytes) -> Baseline:
        """From JSON; raises msgspec.ValidationError for what is no baseline."""
        return msgspec.json.decode(encoded, type=Baseline)


def _hour(time_ms: int) -> int:
    return time_ms % DAY_MS // HOUR_MS


def same_hour(windows: Iterable[W], now_ms: int) -> list[W]:
    """Those that started within the same hour of the day (UTC) as now, on the seven days before."""
    hour = now_ms // HOUR_MS
    return [
        window
        for window in windows
        if 0 < hour - window.start_ms // HOUR_MS <= SEASON_DAYS * 24 and (hour - window.start_ms // HOUR_MS) % 24 == 0
    ]


def _spread(
    rows: Sequence[tuple[int, int, list[float]]], size: int, expected: Sequence[float], is_ratio: bool
) -> Spread:
    """The spread between groups of this many windows. A group may lack some of its windows, not most of them."""
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


def _design_effect(counts: Sequence[float], spreads: Sequence[Spread]) -> float:
    effects = []
    for at, share in enumerate(smoothed(counts)):
        if counts[at] >= COMMON and share < 1:
            within, _ = dispersion(spreads, at, 1.0, 0.0)
            effects.append(within / (share * (1 - share)))
    return max(1.0, statistics.fmean(effects)) if effects else 1.0


def _independence(
    rows: Sequence[tuple[int, int, list[float]]],
    expected: Sequence[float],
    counts: Sequence[float],
    variance: Sequence[float],
) -> float:
    """In how many directions windows move, for each bin (by Satterthwaite): from how the sum of all bins' squares
    varies between them."""
    common = [at for at, count in enumerate(counts) if count >= COMMON and variance[at]]
    sums = [
        sum((1 - expected[at]) * (row[at] - expected[at] * records) ** 2 / (records * variance[at]) for at in common)
        for _, records, row in rows
    ]
    varies, mean = statistics.pvariance(sums), statistics.fmean(sums)
    most = sum(1 - expected[at] for at in common)
    return round(min(1.0, 2 * mean**2 / varies / most), 3) if varies and most > 1 else 1.0
