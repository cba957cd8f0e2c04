"""Asks brokers, reports and drivers how the pipelines do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from streamer.config.load import Config
from streamer.core.report import read
from streamer.errors import ConfigurationError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect, describe
from streamer.ops.judgement import Facts
from streamer.ops.lag import LagWatch, PipelineLag, Tokens
from streamer.ops.series import PipelineSeries
from streamer.ops.status import Status, status_of, worst_first
from streamer.telemetry.scrape import Replica, scraped

LAST_REPORTS: Final = 20_000
"""How far back each partition of the reports is read, transaction markers counted; the console, too."""
REPORTS_S: Final = 10.0


class StatusWatch:
    """Looks again and again; rates are those between two looks, where no report tells. `urls` are those of drivers'
    metrics; `silent` says after a look why those that do not answer do not, by URL. Raises DependencyError where the
    brokers do not answer."""

    def __init__(self, config: Config, pipelines: Sequence[str], urls: Sequence[str]) -> None:
        self._config = config
        self._urls = urls
        self.silent: dict[str, str] = {}
        self._exit = ExitStack()
        admin = connect(config.kafka)
        self._offsets = GroupOffsets(config.kafka, admin)
        self._watches = {name: LagWatch(config, [name], self._offsets, Tokens()) for name in pipelines}
        self._series = {name: PipelineSeries() for name in pipelines}
        self._known_ms = _now_ms()  # from when on all reports are read, whoever wrote them
        self._reports: Reader | None = None
        topic = config.telemetry.reports
        if topic and describe(admin, config.kafka, [topic])[topic]:
            self._reports = self._exit.enter_context(Reader(config.kafka, [topic], start=LAST_REPORTS))
        self._pool = self._exit.enter_context(ThreadPoolExecutor(8, thread_name_prefix="status"))

    def __enter__(self) -> StatusWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def look(self) -> list[Status]:
        """All pipelines, the worst first."""
        asked = self._pool.map(scraped, self._urls)
        if self._reports is not None:
            for record in self._reports.read_until_end(REPORTS_S):
                report = read(record.value())
                if report is None:  # another program's record
                    continue
                self._known_ms = min(self._known_ms, report.time_ms)
                if report.pipeline in self._series:
                    self._series[report.pipeline].add(report, _now_ms())
            for series in self._series.values():
                series.know(self._known_ms)
        answers = dict(zip(self._urls, asked, strict=True))
        self.silent = {url: each for url, each in answers.items() if isinstance(each, str)}
        replicas = [each for each in answers.values() if isinstance(each, Replica)]
        members = self._offsets.members(self._config.pipelines[name].group for name in self._watches)
        return worst_first(list(self._pool.map(lambda name: self._status(name, members, replicas), self._watches)))

    def _status(self, name: str, members: dict[str, list[str]], replicas: list[Replica]) -> Status:
        own = [each for each in replicas if each.pipeline == name]
        group, now_ms = self._config.pipelines[name].group, _now_ms()
        lag: PipelineLag | str
        try:
            (lag,) = self._watches[name].look(now_ms / 1000)
            self._series[name].note_lag(lag.records, lag.seconds, now_ms, lag.rate_out)
        except ConfigurationError as error:  # this pipeline's topic or right; the others have theirs
            lag = str(error)
        return status_of(Facts(name, group, lag, members.get(group), own, self._series[name], now_ms))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
