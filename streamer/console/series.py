"""Fold reports into series over time: pure, so that what the charts show can be tested without a broker.

A report counts in the bucket of the time when it was written. From a pipeline's first report on, or from when the
reports' end was reached, a bucket without reports is one without settles; before that nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.core.report import Model, Report, percentile

FINE_MS, FINE_BUCKETS = 1_000, 900  # a quarter of an hour by the second
COARSE_MS, COARSE_BUCKETS = 30_000, 720  # six hours by half minutes
NOW_MS = 10_000  # what "now" is in the figures beside the charts
LATE_MS = 500  # how much later than written a report may be read without missing its bucket

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
)
Point = tuple[float | None, ...]


@dataclass(slots=True)
class Bucket:
    """What the settles of a stretch of time did. `records` counts all outcomes, `lag_records` is the last one seen."""

    settles: int = 0
    records: int = 0
    results: int = 0
    dead_letters: int = 0
    cached: int = 0
    tokens: int = 0
    latency_ms: dict[int, int] = field(default_factory=dict)
    latency_max_ms: int = 0
    lag_records: int | None = None

    def add(self, report: Report) -> None:
        """Count a settle."""
        dead_letters = sum(report.dead_letters.values())
        self.settles += 1
        self.records += report.results + dead_letters + sum(report.skipped.values())
        self.results += report.results
        self.dead_letters += dead_letters
        self.cached += report.cached
        self.tokens += report.tokens
        self._add_latencies(report.latency_ms.counts, report.latency_ms.max)

    def merge(self, other: Bucket) -> None:
        """Take another stretch in."""
        self.settles += other.settles
        self.records += other.records
        self.results += other.results
        self.dead_letters += other.dead_letters
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
            "dead_letters_per_s": self.dead_letters / span_s,
            "tokens_per_s": self.tokens / span_s,
            "cached_share": self.cached / self.results if self.results else None,
            "settle_records": self.records / self.settles if self.settles else None,
            **{name: percentile(self.latency_ms, share, self.latency_max_ms) for name, share in shares.items()},
            "lag_records": self.lag_records,
        }

    def _add_latencies(self, counts: Iterable[tuple[int, int]], largest: int) -> None:
        for bound, count in counts:
            self.latency_ms[bound] = self.latency_ms.get(bound, 0) + count
        self.latency_max_ms = max(self.latency_max_ms, largest)


_EMPTY = Bucket()


class Series:
    """The newest `length` buckets of `width_ms` each."""

    def __init__(self, width_ms: int, length: int) -> None:
        self.width_ms = width_ms
        self._length = length
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
        """A point for each whole bucket from `first_ms` on that ended before `until_ms`; of those that began before
        `known_ms` only the lag is told."""
        end = until_ms // self.width_ms
        start = max(first_ms // self.width_ms, end - self._length)
        points: list[Point] = []
        for number in range(start, end):
            time_ms = number * self.width_ms
            bucket = self._buckets.get(number, _EMPTY)
            if known_ms is None or time_ms + self.width_ms <= known_ms:
                points.append((time_ms / 1000, *(None for _ in COLUMNS[2:]), bucket.lag_records))
                continue
            figures = bucket.figures(self.width_ms)
            points.append((time_ms / 1000, *(figures[name] for name in COLUMNS[1:])))
        return points

    def sum(self, first_ms: int, until_ms: int) -> Bucket:
        """The buckets that begin in this stretch of time, as one."""
        total = Bucket()
        for number in range(first_ms // self.width_ms, until_ms // self.width_ms):
            if number in self._buckets:
                total.merge(self._buckets[number])
        return total


class PipelineSeries:
    """What the reports of one pipeline, and looks at its lag, add up to. `known_ms` is from when on a silence of the
    reports means that nothing was settled."""

    def __init__(self) -> None:
        self.task: str | None = None
        self.model: Model | None = None
        self.last_ms: int | None = None
        self.known_ms: int | None = None
        self._first_ms: int | None = None
        self._fine = Series(FINE_MS, FINE_BUCKETS)
        self._coarse = Series(COARSE_MS, COARSE_BUCKETS)

    def add(self, report: Report, now_ms: int) -> None:
        """Count a report; one from a clock that is ahead counts as written now. That a member started or ended is no
        settle."""
        if report.event is not None:
            return
        time_ms = min(report.time_ms, now_ms)
        self.task, self.model = report.task, report.model
        self.last_ms = max(self.last_ms or 0, time_ms)
        self.know(time_ms)
        for series in (self._fine, self._coarse):
            series.at(time_ms).add(report)

    def know(self, time_ms: int) -> None:
        """From this time on, all reports are read."""
        self.known_ms = time_ms if self.known_ms is None else min(self.known_ms, time_ms)
        self._begin(time_ms)

    def note_lag(self, records: int, now_ms: int) -> None:
        """Remember how far behind the pipeline is."""
        self._begin(now_ms)
        for series in (self._fine, self._coarse):
            series.at(now_ms).lag_records = records

    def now(self, until_ms: int) -> dict[str, float | None] | None:
        """The figures of the last ten seconds, None where nothing is known of them."""
        until_ms -= LATE_MS
        if self.known_ms is None or until_ms < self.known_ms:
            return None
        return self._fine.sum(until_ms - NOW_MS, until_ms).figures(NOW_MS)

    def points(self, since_ms: int, until_ms: int) -> dict[str, list[Point]]:
        """The series by `COLUMNS`, from `since_ms` on."""
        if self._first_ms is None:
            return {"fine": [], "coarse": []}
        first_ms, until_ms = max(since_ms, self._first_ms), until_ms - LATE_MS
        coarse_ms = max(since_ms - COARSE_MS, self._first_ms)
        return {
            "fine": self._fine.points(first_ms, until_ms, self.known_ms),
            "coarse": self._coarse.points(coarse_ms, until_ms, self.known_ms),
        }

    def _begin(self, time_ms: int) -> None:
        self._first_ms = time_ms if self._first_ms is None else min(self._first_ms, time_ms)
