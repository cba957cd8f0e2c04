"""Looks at pipelines for who scales them: what each has before it, and what its reports say of a replica's capacity."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.config.load import Config
from streamer.core.capacity import Capacity
from streamer.core.onlooker import View, missing
from streamer.core.report import read
from streamer.core.scaling import Backlog, Wish, backlog_of, is_stuck, replicas
from streamer.errors import ConfigurationError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect, describe

RATE_S = 60.0
"""What arrives is the mean of so long."""
_LAST_REPORTS = 20_000
_REPORTS_S = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A pipeline at `at_s`, seconds of a monotonic clock. Nothing has waited since `quiet_since_s`."""

    at_s: float
    backlog: Backlog
    quiet_since_s: float
    capacity: float | None

    @property
    def works(self) -> bool:
        """Whether records wait, be it for a person."""
        return bool(self.backlog.records or self.backlog.stuck)

    def replicas(self, wish: Wish) -> int:
        """How many replicas this ScaledObject's pipeline needs."""
        return replicas(self.backlog, wish, self.capacity, self.at_s - self.quiet_since_s)


@dataclass(slots=True)
class _Known:
    """What is kept of a pipeline from look to look: where its partitions ended."""

    capacity: Capacity = field(default_factory=Capacity)
    ends: deque[tuple[float, dict[tuple[str, int], int]]] = field(default_factory=deque)
    quiet_since_s: float = -math.inf

    def arriving(self, views: Iterable[View], now_s: float) -> float:
        """Offsets that were added a second to partitions which do not stand still."""
        ends = {view.partition: view.high for view in views if not is_stuck(view)}
        self.ends.append((now_s, ends))
        while len(self.ends) > 2 and now_s - self.ends[1][0] >= RATE_S:
            self.ends.popleft()
        since_s, before = self.ends[0]
        added = sum(max(end - before[place], 0) for place, end in ends.items() if place in before)
        return added / (now_s - since_s) if now_s > since_s else 0.0


class ScaleWatch:
    """Looks again and again; each method may run on a thread of its own, one call for a pipeline at a time. Raises
    DependencyError where the brokers do not answer, ConfigurationError for a missing topic or right."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._admin = connect(config.kafka, reach=False)  # this runs on while no broker answers
        self._offsets = GroupOffsets(config.kafka, self._admin)
        self._known = {name: _Known() for name in config.pipelines}
        self._reports: Reader | None = None

    def look(self, name: str, now_s: float | None = None) -> Seen:
        """A pipeline as it is now."""
        pipeline, known = self._config.pipelines[name], self._known[name]
        counts = self._offsets.counts(pipeline.input)
        there = [topic for topic in pipeline.input if counts.get(topic) != 0]
        if not there:
            raise ConfigurationError("; ".join(str(each) for each in missing(pipeline.input, (), counts)))
        views = self._offsets.views(pipeline.group, there, pipeline.start)
        now_s = time.monotonic() if now_s is None else now_s
        arriving, capacity = known.arriving(views, now_s), known.capacity
        found = backlog_of(views, arriving, capacity.share)
        if found.records or found.stuck:
            known.quiet_since_s = now_s
        return Seen(now_s, found, known.quiet_since_s, capacity.records_per_s)

    def read_reports(self) -> None:
        """Learn from the reports that came since the last call; from the newest 20,000 of each partition at first."""
        topic = self._config.telemetry.reports
        if self._reports is None:
            if not topic or not describe(self._admin, self._config.kafka, [topic])[topic]:
                return
            self._reports = Reader(self._config.kafka, [topic], start=_LAST_REPORTS)
        for record in self._reports.read_until_end(_REPORTS_S):
            report = read(record.value())
            if report is not None and report.pipeline in self._known:
                self._known[report.pipeline].capacity.add(report)

    def close(self) -> None:
        """Let go of the reader of reports."""
        if self._reports is not None:
            self._reports.close()
