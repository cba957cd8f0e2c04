"""What the reports of a pipeline add up to over time, for `streamer status`, the console's charts and the judgement of
how a pipeline stands. Pure, and of bounded size.

A report counts in the bucket of the time when it was written. From a pipeline's first report on, or from when the
reports' end was reached, a bucket without reports is one without settles; before that nothing is known of it.

A point of the fine series is the mean of the ten seconds that end with it, so the newest point is what the figures
beside the chart show.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from streamer.core.report import UNKNOWN, Event, Model, Report
from streamer.errors import ExitCode
from streamer.ops.buckets import Bucket, Point, Series

FINE_MS, FINE_BUCKETS = 1_000, 900  # a quarter of an hour by the second
COARSE_MS, COARSE_BUCKETS = 30_000, 720  # six hours by half minutes
NOW_MS = 10_000  # a fine point is the mean of so long, and so is what is called "now"
SPARK_MS, SPARK_POINTS = 10_000, 30  # the small line of the overview, and the share of dead letters: five minutes
GROWTH_MS = 60_000  # over how long a lag has to grow
_GROWTH_LEAST: Final = 0.5  # seconds that the oldest record ages per second
LATELY_MS = 60_000  # so long is what `streamer status` tells of
LATE_MS = 500  # how much later than written a report may be read without missing its bucket
_MOST_GONE: Final = 1_000


class PipelineSeries:
    """What the reports of one pipeline, and looks at its lag, add up to. `known_ms` is from when on a silence of the
    reports means that nothing was settled; `ended` is how the member ended that the last report is of; `gone` are the
    slots of those that ended: brokers count a static member as one until its session times out. One that was fenced is
    not among them: the slot is its successor's. `moved_ms` is from when on the settled offsets have not moved."""

    def __init__(self) -> None:
        self.task: str | None = None
        self.model: Model | None = None
        self.last_ms: int | None = None
        self.known_ms: int | None = None
        self.ended: Event | None = None
        self.gone: dict[str, None] = {}
        self.moved_ms: int | None = None
        self.last_dead_ms: int | None = None
        self.last_dead = ""
        self._first_ms: int | None = None
        self._fine = Series(FINE_MS, FINE_BUCKETS, NOW_MS // FINE_MS)
        self._coarse = Series(COARSE_MS, COARSE_BUCKETS)
        self._short = Series(SPARK_MS, SPARK_POINTS + 2)
        self._lags: deque[tuple[int, int, float]] = deque()

    def add(self, report: Report, now_ms: int) -> None:
        """Count a report; one from a clock that is ahead counts as written now. That a member started or ended is no
        settle."""
        self.task = report.task
        if report.model.revision != UNKNOWN:
            self.model = report.model
        self.gone.pop(report.member, None)
        self.ended = report.event if report.event is not None and report.event.what == "ended" else None
        if self.ended is not None and self.ended.exit_code != ExitCode.FENCED:
            self.gone[report.member] = None
            if len(self.gone) > _MOST_GONE:
                del self.gone[next(iter(self.gone))]
        if report.event is not None:
            return
        time_ms = min(report.time_ms, now_ms)
        self.last_ms = max(self.last_ms or 0, time_ms)
        if report.dead_letters:
            self.last_dead_ms = time_ms
            self.last_dead = max(report.dead_letters, key=lambda code: report.dead_letters[code])
        self.know(time_ms)
        for series in (self._fine, self._coarse, self._short):
            series.at(time_ms).add(report)

    def know(self, time_ms: int) -> None:
        """From this time on, all reports are read."""
        self.known_ms = time_ms if self.known_ms is None else min(self.known_ms, time_ms)
        self._begin(time_ms)

    def note_lag(self, records: int, seconds: float | None, now_ms: int, rate_out: float | None = None) -> None:
        """Remember how far behind the pipeline is, and by the rate whether its settled offsets moved."""
        self._begin(now_ms)
        if rate_out != 0:  # None is the first look, from which on it is known
            self.moved_ms = now_ms
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
        return self._short.sum_of_last(until_ms, SPARK_POINTS).dead_share

    def settled_lately(self, now_ms: int) -> bool:
        """Whether outcomes came in the last ten seconds."""
        return self.last_ms is not None and now_ms - self.last_ms < NOW_MS

    def lately(self, now_ms: int) -> Bucket | None:
        """The last minute; None where no report tells of it."""
        return None if self.known_ms is None else self._fine.sum_of_last(now_ms, LATELY_MS // FINE_MS)

    def rate(self, now_ms: int) -> float | None:
        """Records settled a second in the last ten seconds; None where no report tells of any settle."""
        records = self._fine.sum_of_last(now_ms, NOW_MS // FINE_MS).records
        return None if self.last_ms is None else records * 1000 / NOW_MS

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
