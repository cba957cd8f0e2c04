"""Looks at pipelines for who scales them: what each has before it, and what its reports say of a replica's capacity."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from streamer.config.load import Config
from streamer.core.capacity import Capacity
from streamer.core.onlooker import missing
from streamer.core.report import read
from streamer.core.scaling import Arrivals, Backlog, Wish, backlog_of, replicas
from streamer.errors import ConfigurationError, DependencyError, StreamerError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect

_LAST_REPORTS = 20_000
_REPORTS_S = 10.0
_CONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A pipeline at `at_s`, seconds of a monotonic clock. Nothing has waited since `quiet_since_s`."""

    at_s: float
    backlog: Backlog
    quiet_since_s: float
    capacity: float | None
    members: int = 1

    @property
    def works(self) -> bool:
        """Whether records wait, be it for a person."""
        return bool(self.backlog.records or self.backlog.stuck)

    def replicas(self, wish: Wish) -> int:
        """How many replicas this ScaledObject's pipeline needs."""
        return replicas(self.backlog, wish, self.capacity, self.at_s - self.quiet_since_s, self.members)


@dataclass(slots=True)
class _Known:
    """What is kept of a pipeline from look to look. Reports are read on another thread, which sets the last two."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    quiet_since_s: float = -math.inf
    capacity: Capacity = field(default_factory=Capacity)
    records_per_s: float | None = None
    share: float = 1.0


class ScaleWatch:
    """Looks again and again; each method may run on a thread of its own, one call for a pipeline at a time. Raises
    DependencyError where the brokers do not answer, ConfigurationError for a missing topic or right."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._offsets: GroupOffsets | None = None
        self._unreached: StreamerError = DependencyError("no broker was asked yet")
        self._known = {name: _Known() for name in config.pipelines}
        self._reports: Reader | None = None

    def look(self, name: str) -> Seen:
        """A pipeline as it is now."""
        pipeline, known = self._config.pipelines[name], self._known[name]
        if self._offsets is None:
            raise self._unreached.with_traceback(None)
        counts = self._offsets.counts(pipeline.input)
        there = [topic for topic in pipeline.input if counts.get(topic) != 0]
        if not there:
            raise ConfigurationError("; ".join(str(each) for each in missing(pipeline.input, (), counts)))
        views = self._offsets.views(pipeline.group, there, pipeline.start)
        now_s = time.monotonic()
        found = backlog_of(views, known.arrivals.rate(views, now_s), known.share)
        if found.records or found.stuck:
            known.quiet_since_s = now_s
        return Seen(now_s, found, known.quiet_since_s, known.records_per_s, pipeline.first_members)

    def read_reports(self) -> None:
        """Learn from the reports that came since the last call; from the newest 20,000 of each partition at first.
        No look is tried before the brokers have answered here."""
        if self._offsets is None:
            try:
                self._offsets = GroupOffsets(self._config.kafka, connect(self._config.kafka, _CONNECT_S))
            except StreamerError as error:
                self._unreached = error
                raise
        topic = self._config.telemetry.reports
        if self._reports is None:
            if not topic or not self._offsets.counts([topic]).get(topic):
                return
            self._reports = Reader(self._config.kafka, [topic], start=_LAST_REPORTS)
        for record in self._reports.read_until_end(_REPORTS_S):
            report = read(record.value())
            if report is not None and report.pipeline in self._known:
                self._known[report.pipeline].capacity.add(report)
        for known in self._known.values():
            known.records_per_s, known.share = known.capacity.records_per_s, known.capacity.share
