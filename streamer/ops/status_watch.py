"""Asks brokers, reports and drivers how the pipelines do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Final

import msgspec

from streamer.config.load import Config
from streamer.core.report import Report
from streamer.errors import ConfigurationError, DependencyError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect, describe
from streamer.ops.lag import LagWatch, PipelineLag, Tokens
from streamer.ops.status import Facts, Recent, Status, status_of, worst_first
from streamer.telemetry.scrape import Replica, scrape

LAST_REPORTS: Final = 5_000
REPORTS_S: Final = 10.0

_decode = msgspec.json.Decoder(Report).decode


class StatusWatch:
    """Looks again and again; rates are those between two looks, where no report tells. `urls` are those of drivers'
    metrics. Raises DependencyError where the brokers do not answer."""

    def __init__(self, config: Config, pipelines: Sequence[str], urls: Sequence[str]) -> None:
        self._config = config
        self._urls = urls
        self._exit = ExitStack()
        admin = connect(config.kafka)
        self._offsets = GroupOffsets(config.kafka, admin)
        self._watches = {name: LagWatch(config, [name], self._offsets, Tokens()) for name in pipelines}
        self._recent: dict[str, Recent] = {}
        self._reports: Reader | None = None
        topic = config.telemetry.reports
        if topic and describe(admin, config.kafka, [topic])[topic]:
            self._reports = self._exit.enter_context(Reader(config.kafka, [topic], start=LAST_REPORTS))
        self._pool = self._exit.enter_context(ThreadPoolExecutor(8, thread_name_prefix="status"))

    def __enter__(self) -> StatusWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def look(self) -> list[Status]:
        """All pipelines, the worst first."""
        asked = [self._pool.submit(_try_scrape, url) for url in self._urls]
        if self._reports is not None:
            for record in self._reports.read_until_end(REPORTS_S):
                self._take(record.value())
        replicas = [each for answer in asked if (each := answer.result()) is not None]
        return worst_first(list(self._pool.map(lambda name: self._status(name, replicas), self._watches)))

    def _status(self, name: str, replicas: list[Replica]) -> Status:
        own = [each for each in replicas if each.pipeline == name]
        group, now_s = self._config.pipelines[name].group, time.time()
        lag: PipelineLag | str
        try:
            (lag,) = self._watches[name].look(now_s)
        except ConfigurationError as error:  # this pipeline's topic or right; the others have theirs
            lag = str(error)
        try:
            members = self._offsets.partitions_by_member(group)
        except ConfigurationError:  # no right to it
            members = None
        recent = self._recent.setdefault(name, Recent()) if self._reports is not None else None
        return status_of(Facts(name, group, lag, members, own, recent, int(now_s * 1000)))

    def _take(self, value: bytes | None) -> None:
        try:
            report = _decode(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # another program's record
            return
        self._recent.setdefault(report.pipeline, Recent()).add(report)


def _try_scrape(url: str) -> Replica | None:
    try:
        return scrape(url)
    except DependencyError:
        return None
