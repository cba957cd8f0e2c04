"""Fold reports into series over time: pure, so that what the charts show can be tested without a broker.

A report counts in the bucket of the time when it was written. From a pipeline's first report on, or from when the
reports' end was reached, a bucket without reports is one without settles; before that nothing is known of it.

A point of the fine series is the mean of the ten seconds that end with it, so the newest point is what the figures
beside the chart show.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from streamer.core.report import Event, Model, Report, percentile

FINE_MS, FINE_BUCKETS = 1_000, 900  # a quarter of an hour by the second
COARSE_MS, COARSE_BUCKETS = 30_000, 720  # six hours by half minutes
NOW_MS = 10_000  # a fine point is the mean of so long, and so is what is called "now"
SPARK_MS, SPARK_POINTS = 10_000, 30  # the small line of the overview, and the share of dead letters: five minutes
GROWTH_MS = 60_000  # over how long a lag has to grow
_GROWTH_LEAST: Final = 0.5  # seconds that the oldest record ages per second
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
    "lag_seconds",
)
Point = tuple[float | None, ...]


@dataclass(slots=True)
class Bucket:
    """What the settles of a stretch of time did. `records` counts all outcomes; the lag is the last one seen."""

    settles: int = 0
    records: int = 0
    results: int = 0
    dead_letters: int = 0
    cached: int = 0
    tokens: int = 0
    latency_ms: dict[int, int] = field(default_factory=dict)
    latency_max_ms: int = 0
    lag_records: int | None = None
    lag_seconds: float | None = None

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
            "lag_seconds": self.lag_seconds,
        }

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


class PipelineSeries:
    """What the reports of one pipeline, and looks at its lag, add up to. `known_ms` is from when on a silence of the
    reports means that nothing was settled; `ended` is how the member ended that the last report is of."""

    def __init__(self) -> None:
        self.task: str | None = None
        self.model: Model | None = None
        self.last_ms: int | None = None
        self.known_ms: int | None = None
        self.ended: Event | None = None
        self._first_ms: int | None = None
        self._fine = Series(FINE_MS, FINE_BUCKETS, NOW_MS // FINE_MS)
        self._coarse = Series(COARSE_MS, COARSE_BUCKETS)
        self._short = Series(SPARK_MS, SPARK_POINTS + 2)
        self._lags: deque[tuple[int, int, float]] = deque()

    def add(self, report: Report, now_ms: int) -> None:
        """Count a report; one from a clock that is ahead counts as written now. That a member started or ended is no
        settle."""
        self.ended = report.event if report.event is not None and report.event.what == "ended" else None
        if report.event is not None:
            return
        time_ms = min(report.time_ms, now_ms)
        self.task, self.model = report.task, report.model
        self.last_ms = max(self.last_ms or 0, time_ms)
        self.know(time_ms)
        for series in (self._fine, self._coarse, self._short):
            series.at(time_ms).add(report)

    def know(self, time_ms: int) -> None:
        """From this time on, all reports are read."""
        self.known_ms = time_ms if self.known_ms is None else min(self.known_ms, time_ms)
        self._begin(time_ms)

    def note_lag(self, records: int, seconds: float | None, now_ms: int) -> None:
        """Remember how far behind the pipeline is."""
        self._begin(now_ms)
        for series in (self._fine, self._coarse):
            bucket = series.at(now_ms)
            bucket.lag_records, bucket.lag_seconds = records, seconds
        self._lags.append((now_ms, records, seconds or 0.0))
        while self._lags[0][0] < now_ms - GROWTH_MS:
            self._lags.popleft()

    @property
    def grows(self) -> bool:
        """Whether more waits than half a minute ago or longer, and the oldest of it is ageing: what is being worked off
        does not."""
        if not self._lags:
            return False
        (first_ms, before, younger), (last_ms, records, older) = self._lags[0], self._lags[-1]
        took_s = (last_ms - first_ms) / 1000
        return took_s * 2000 >= GROWTH_MS and records > before and older - younger >= _GROWTH_LEAST * took_s

    def now(self, until_ms: int) -> dict[str, float | None] | None:
        """The figures of the newest point; None where nothing is known of it."""
        return self._fine.figures((until_ms - LATE_MS) // FINE_MS - 1, self.known_ms)

    def dead_share(self, until_ms: int) -> float | None:
        """The share of dead letters among the outcomes of the last minutes; None without outcomes."""
        buckets = self._short.last(until_ms, SPARK_POINTS)
        dead = sum(bucket.dead_letters for bucket in buckets)
        outcomes = dead + sum(bucket.results for bucket in buckets)
        return dead / outcomes if outcomes else None

    def spark(self, until_ms: int) -> list[float | None]:
        """Results a second over the last minutes; None where nothing is known."""
        whole_ms = (until_ms - LATE_MS) // SPARK_MS * SPARK_MS - SPARK_MS  # where the last whole bucket begins
        buckets = self._short.last(whole_ms, SPARK_POINTS)
        known_ms = whole_ms + SPARK_MS if self.known_ms is None else self.known_ms
        unknown = max(0, (known_ms - whole_ms) // SPARK_MS + SPARK_POINTS - 1)
        rates = [bucket.results * 1000 / SPARK_MS for bucket in buckets]
        return [None if index < unknown else rate for index, rate in enumerate(rates)]

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
