"""Baselines: what a monitor's sums were when all was well, and how far windows of that time lay apart.

Records are not independent. What comes together is alike, and an hour has its topic. So the spread between windows is
measured, not assumed: of each bin, and of all bins in the direction in which they move together.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from streamer.core.health.drift.gtest import smoothed
from streamer.core.health.drift.leading import Leading, independence
from streamer.core.health.drift.monitors import MONITORS, Binning, Kind, Sums
from streamer.core.health.drift.spread import COMMON, Row, Spread, dispersion, spreads_of
from streamer.core.health.sums import added
from streamer.core.health.windows.fold import DAY_MS, HOUR_MS
from streamer.core.health.windows.window import Window

SEASON_DAYS = 7

LEAST_WINDOWS = 10
"""Fewer windows do not tell how far they lie apart."""

LEAST_SHARE: dict[Kind, float] = {"categories": 0.01, "histogram": 0.02}


class Reference(msgspec.Struct):
    """A monitor's sums in the baseline, the cut into bins that was taken from them, the records in each bin, and the
    spread for each size of group. `design_effect` is how often the variance within a window is that of independent
    records, over all common bins: 1 or more. `independence` is 1 where bins move each for itself, and the less the more
    they move together; `leading` is the direction in which they do."""

    sums: Sums
    cut: Binning
    bins: list[float]
    spreads: list[Spread]
    design_effect: float = 1.0
    independence: float = 1.0
    leading: Leading | None = None

    @property
    def ratio(self) -> float:
        """The value, if this is a ratio."""
        return self.sums.ratio

    @staticmethod
    def of(kind: Kind, read: Sequence[tuple[int, Sums]]) -> Reference:
        """Learn from what was read of windows, each with its number in time."""
        total = added([sums for _, sums in read])
        assert total is not None, "windows were read"
        if kind == "ratio":
            rows = [
                (block, sums.records, [sums.counts["sum"] - total.ratio * sums.counts["of"]]) for block, sums in read
            ]
            return Reference(total, Binning(), [], spreads_of(rows, [0.0]))
        cut = Binning.of(kind, total, LEAST_SHARE[kind])
        counts = cut.bins(total)
        rows = [(block, sums.records, cut.bins(sums)) for block, sums in read]
        expected = [count / total.records for count in counts]
        spreads = spreads_of(rows, expected)
        return Reference(
            total,
            cut,
            counts,
            spreads,
            _design_effect(counts, spreads),
            _independence(rows, expected, counts, spreads[0].variance),
            Leading.of(rows, expected, counts, spreads),
        )


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
    def of(windows: Iterable[Window]) -> Baseline | None:
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
        """The baseline as JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(encoded: bytes) -> Baseline:
        """The baseline in JSON. Raises msgspec.ValidationError for anything else."""
        return msgspec.json.decode(encoded, type=Baseline)


def _hour(time_ms: int) -> int:
    return time_ms % DAY_MS // HOUR_MS


def same_hour(windows: Iterable[Window], now_ms: int) -> list[Window]:
    """Those that started within the same hour of the day (UTC) as now, on the seven days before."""
    hour = now_ms // HOUR_MS
    return [
        window
        for window in windows
        if 0 < hour - window.start_ms // HOUR_MS <= SEASON_DAYS * 24 and (hour - window.start_ms // HOUR_MS) % 24 == 0
    ]


def _design_effect(counts: Sequence[float], spreads: Sequence[Spread]) -> float:
    effects = []
    for at, share in enumerate(smoothed(counts)):
        if counts[at] >= COMMON and share < 1:
            within, _ = dispersion(spreads, at, 1.0, 0.0)
            effects.append(within / (share * (1 - share)))
    return max(1.0, statistics.fmean(effects)) if effects else 1.0


def _independence(
    rows: Sequence[Row],
    expected: Sequence[float],
    counts: Sequence[float],
    variance: Sequence[float],
) -> float:
    """How far bins move each for itself, from how the sum of all their squares varies between windows."""
    common = [at for at, count in enumerate(counts) if count >= COMMON and variance[at]]
    sums = [
        sum((1 - expected[at]) * (row[at] - expected[at] * records) ** 2 / (records * variance[at]) for at in common)
        for _, records, row in rows
    ]
    most = sum(1 - expected[at] for at in common)
    return independence(sums, most) if most > 1 else 1.0
