"""Stretches of time and what the settles of each did: pure, so that what charts show can be tested without a broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.core.report import Report, percentile

COLUMNS = (
    "time_s",
    "results_per_s",
    "dead_letters_per_s",
    "tokens_per_s",
    "cached_share",
    "settle_records",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "lag_records",
    "lag_seconds",
)
Point = tuple[float | None, ...]


@dataclass(slots=True)
class Bucket:
    """What the settles of a stretch of time did. `records` counts all outcomes; the lag is the last one seen."""

    settles: int = 0
    records: int = 0
    results: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    tokens: int = 0
    latency_ms: dict[int, int] = field(default_factory=dict)
    latency_max_ms: int = 0
    lag_records: int | None = None
    lag_seconds: float | None = None

    def add(self, report: Report) -> None:
        """Count a settle."""
        self.settles += 1
        self.records += report.records
        self.results += report.results
        self.dead_letters.update(report.dead_letters)
        self.cached += report.cached
        self.tokens += report.tokens
        self._add_latencies(report.latency_ms.counts, report.latency_ms.max)

    def merge(self, other: Bucket) -> None:
        """Take another stretch in."""
        self.settles += other.settles
        self.records += other.records
        self.results += other.results
        if other.dead_letters:
            self.dead_letters.update(other.dead_letters)
        self.cached += other.cached
        self.tokens += other.tokens
        self._add_latencies(other.latency_ms.items(), other.latency_max_ms)

    def figures(self, span_ms: int) -> dict[str, float | None]:
        """Rates and means over a stretch of this length, by the names in `COLUMNS`; None where there is nothing to
        take a mean of."""
        span_s = span_ms / 1000
        shares = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
        return {
            "results_per_s": self.results / span_s,
            "dead_letters_per_s": self.dead_letters.total() / span_s,
            "tokens_per_s": self.tokens / span_s,
            "cached_share": self.cached / self.results if self.results else None,
            "settle_records": self.records / self.settles if self.settles else None,
            **{name: self.latency_ms_at(share) for name, share in shares.items()},
            "lag_records": self.lag_records,
            "lag_seconds": self.lag_seconds,
        }

    @property
    def dead_share(self) -> float | None:
        """Dead letters among all that was answered; None where nothing was."""
        dead = self.dead_letters.total()
        return dead / (dead + self.results) if dead + self.results else None

    def latency_ms_at(self, share: float) -> int | None:
        """The latency that this share of the records did not exceed; None without records."""
        return percentile(self.latency_ms, share, self.latency_max_ms)

    def _add_latencies(self, counts: Iterable[tuple[int, int]], largest: int) -> None:
        for bound, count in counts:
            self.latency_ms[bound] = self.latency_ms.get(bound, 0) + count
        self.latency_max_ms = max(self.latency_max_ms, largest)


_EMPTY = Bucket()


class Series:
    """The newest `length` buckets of `width_ms` each. A point is the mean over `span` buckets that end with its own."""

    def __init__(self, width_ms: int, length: int, span: int = 1) -> None:
        self.width_ms = width_ms
        self._length = length
        self._span = span
        self._buckets: dict[int, Bucket] = {}
        self._newest = 0

    def at(self, time_ms: int) -> Bucket:
        """The bucket of a time; one that is too old to be kept counts nowhere."""
        number = time_ms // self.width_ms
        if number <= self._newest - self._length:
            return Bucket()
        if number > self._newest:
            self._newest = number
            oldest = number - self._length
            self._buckets = {each: bucket for each, bucket in self._buckets.items() if each > oldest}
        return self._buckets.setdefault(number, Bucket())

    def points(self, first_ms: int, until_ms: int, known_ms: int | None) -> list[Point]:
        """A point for each whole bucket from `first_ms` on that ended before `until_ms`; of those that ended before
        `known_ms` only the lag is told."""
        end = until_ms // self.width_ms
        start = max(first_ms // self.width_ms, end - self._length)
        points: list[Point] = []
        for number in range(start, end):
            figures = self.figures(number, known_ms)
            if figures is None:
                bucket = self._buckets.get(number, _EMPTY)
                lag = bucket.lag_records, bucket.lag_seconds
                points.append((number * self.width_ms / 1000, *(None for _ in COLUMNS[3:]), *lag))
                continue
            points.append((number * self.width_ms / 1000, *(figures[name] for name in COLUMNS[1:])))
        return points

    def figures(self, number: int, known_ms: int | None) -> dict[str, float | None] | None:
        """The figures of the bucket of this number; None where nothing is known of it."""
        known = None if known_ms is None else known_ms // self.width_ms
        if known is None or number < known:
            return None
        first = max(number - self._span + 1, known)
        total = self.sum(first, number + 1)
        last = self._buckets.get(number, _EMPTY)
        total.lag_records, total.lag_seconds = last.lag_records, last.lag_seconds
        return total.figures((number + 1 - first) * self.width_ms)

    def sum(self, first: int, end: int) -> Bucket:
        """The buckets of these numbers, as one."""
        total = Bucket()
        for number in range(first, end):
            if number in self._buckets:
                total.merge(self._buckets[number])
        return total

    def last(self, time_ms: int, count: int) -> list[Bucket]:
        """The last `count` buckets up to the one of this time, for reading."""
        end = time_ms // self.width_ms + 1
        return [self._buckets.get(number, _EMPTY) for number in range(end - count, end)]

    def sum_of_last(self, time_ms: int, count: int) -> Bucket:
        """These as one."""
        end = time_ms // self.width_ms + 1
        return self.sum(end - count, end)
