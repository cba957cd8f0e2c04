"""What the page shows of the pipelines, gathered while it runs: reports, offsets, drivers' metrics, model health.

Each source has a thread that goes on trying; a source that is away shows as such, and the others go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from streamer.config.load import Config
from streamer.console.board import Situation, pipeline_json, rows_json
from streamer.console.bugs import named
from streamer.console.drivers import Drivers
from streamer.console.health import Health
from streamer.console.source import Source
from streamer.core.record import Record
from streamer.core.report import read
from streamer.errors import ConfigurationError, DependencyError, StreamerError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.ops.buckets import COLUMNS
from streamer.ops.judgement import PipelineInfo
from streamer.ops.lag import LagWatch, PipelineLag, Tokens
from streamer.ops.series import PipelineSeries
from streamer.ops.status_watch import LAST_REPORTS

MAX_STRANGERS: Final = 200  # pipelines that are known by their reports alone
LOOK_S: Final = 2.0
SELDOM_S: Final = 20.0
MEMBERS_S: Final = 10.0  # groups change seldom; one without a member is looked at each time
KEEP_MS: Final = 500  # so long an overview counts as the present one, however many browsers ask
RETRY_S: Final = 3.0
CLOSE_S: Final = 2.0

_log = logging.getLogger(__name__)


class Feed:
    """Gathers in the background from `start` to `close`; `overview` and `pipeline` may be called from any thread."""

    def __init__(self, config: Config, metrics_urls: Iterable[str]) -> None:
        self._config = config
        self._drivers = Drivers(metrics_urls)
        self._lock = threading.Lock()
        self._series = {name: PipelineSeries() for name in config.pipelines}
        self._reading = 0
        self._lags: dict[str, PipelineLag | str] = {}
        self._members: dict[str, list[str]] = {}
        self._overview: tuple[int, bytes] = 0, b""
        self.health = Health(config)
        self._offsets_source, self._reports_source = Source(), Source()
        self._stop = threading.Event()
        jobs: list[tuple[str, Callable[[], None], Source]] = [
            ("offsets", self._watch_offsets, self._offsets_source),
            ("health", self._follow_health, self.health.source),
        ]
        if config.telemetry.reports:
            jobs.append(("reports", self._read_reports, self._reports_source))
        self._threads = [
            threading.Thread(target=self._keep_at, args=(work, source), name=f"console-{name}", daemon=True)
            for name, work, source in jobs
        ]
        if self._drivers.urls:
            watch = threading.Thread(
                target=self._drivers.watch, args=(self._stop,), name="console-metrics", daemon=True
            )
            self._threads.append(watch)

    def start(self) -> None:
        """Begin to gather."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop gathering. What waits for brokers that are away is left behind."""
        self._stop.set()
        deadline = time.monotonic() + CLOSE_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0))

    def overview(self) -> bytes:
        """All pipelines in a row each, as JSON; made once for all who ask within half a second."""
        now_ms = _now_ms()
        with self._lock:
            made_ms, overview = self._overview
            if abs(now_ms - made_ms) > KEEP_MS:
                overview = msgspec.json.encode(self._overview_at(now_ms))
                self._overview = now_ms, overview
            return overview

    def pipeline(self, name: str, since_ms: int) -> dict[str, Any] | None:
        """One pipeline whole, with the points of its series from `since_ms` to `until_ms`; None where there is none.
        Where `reading` differs from an earlier answer's, the series were read again, and all points are to be asked for
        again."""
        now_ms = _now_ms()
        with self._lock:
            series = self._series.get(name)
            if series is None:
                return None
            reached, until_ms = self._reached(now_ms)
            (situation,) = self._situations([name], until_ms)
            told = pipeline_json(situation, reached=reached, since_ms=since_ms, now_ms=now_ms)
            asked, silent = len(self._drivers.urls), self._drivers.silent
            return told | {
                "now_ms": now_ms,
                "until_ms": until_ms,
                "reading": self._reading,
                "columns": COLUMNS,
                "metrics": {"asked": asked, "silent": silent},
            }

    def _overview_at(self, now_ms: int) -> dict[str, Any]:
        reached, until_ms = self._reached(now_ms)
        rows = rows_json(self._situations(self._series, until_ms), reached=reached, now_ms=now_ms)
        return {
            "now_ms": now_ms,
            "kafka": self._kafka_json(reached, now_ms),
            "reports": {"topic": self._config.telemetry.reports or None, "error": self._reports_source.error},
            "health": self.health.overview(now_ms),
            "pipelines": rows,
        }

    def _reached(self, now_ms: int) -> tuple[bool, int]:
        """Whether the brokers answer, and up to when they did."""
        offsets = self._offsets_source
        reached = offsets.is_well(now_ms)
        return reached, now_ms if reached or not offsets.answered_ms else offsets.answered_ms

    def _situations(self, names: Iterable[str], at_ms: int) -> list[Situation]:
        drivers = self._drivers.by_pipeline(time.monotonic())
        found = []
        for name in names:
            config, own = self._config.pipelines.get(name), drivers.get(name, [])
            group = config.group if config else name
            answering = [each.replica for each in own if not each.silent_s]
            lag, members = self._lags.get(name), self._members.get(name)
            info = PipelineInfo(name, group, lag, members, answering, self._series[name], at_ms)
            found.append(Situation(info, config, own))
        return found

    def _kafka_json(self, reached: bool, now_ms: int) -> dict[str, Any]:
        source, address = self._offsets_source, self._config.kafka.bootstrap_servers
        error = source.error
        if error == "" and not reached:
            error = f"Kafka at {address} has not answered for {(now_ms - source.answered_ms) // 1000} s"
        return {
            "address": address,
            "reached": None if error is None else reached,
            "error": error or None,
            "answered_ms": source.answered_ms or None,
        }

    def _keep_at(self, work: Callable[[], None], source: Source) -> None:
        """Do it again and again; whatever ends it is shown, and tried again after a while."""
        while not self._stop.is_set():
            try:
                work()
            except StreamerError as error:
                self._failed(source, str(error))
            except Exception as error:
                _log.error("reading failed: %s", named(error))
                self._failed(source, f"reading failed by a bug in streamer: {named(error)}")
            self._stop.wait(RETRY_S)

    def _failed(self, source: Source, error: str) -> None:
        with self._lock:
            source.error, source.asked_ms = error, None

    def _answered(self, source: Source) -> None:
        with self._lock:
            source.error, source.answered_ms, source.asked_ms = "", _now_ms(), None

    def _asks(self, source: Source) -> None:
        with self._lock:
            source.asked_ms = _now_ms()

    def _watch_offsets(self) -> None:
        """Look at all pipelines by one batch of requests, as often as the brokers answer quickly."""
        offsets = GroupOffsets(self._config.kafka)
        watch = LagWatch(self._config, self._config.pipelines, offsets, Tokens())
        members: dict[str, list[str]] = {}
        members_due, slow = 0.0, 0
        while not self._stop.is_set():
            began = time.monotonic()
            self._asks(self._offsets_source)
            try:
                lags = self._look(watch)
                if began >= members_due:
                    members = offsets.members(pipeline.group for pipeline in self._config.pipelines.values())
                    members_due = began + (MEMBERS_S if all(members.values()) else 0)
                slow = 0
            except DependencyError as error:  # one answer that is late is no outage, two in a row are
                slow += 1
                if slow > 1:
                    raise
                _log.warning("reading the state of the pipelines failed, trying again: %s", error)
                self._stop.wait(LOOK_S)
                continue
            self._answered(self._offsets_source)
            with self._lock:
                self._lags = lags
                groups = {name: pipeline.group for name, pipeline in self._config.pipelines.items()}
                self._members = {name: members[group] for name, group in groups.items() if group in members}
                for name, lag in lags.items():
                    if isinstance(lag, PipelineLag):
                        self._series[name].note_lag(lag.records, lag.seconds, _now_ms(), lag.rate_out)
            self._stop.wait(min(max(LOOK_S, 4 * (time.monotonic() - began)), SELDOM_S))

    def _look(self, watch: LagWatch) -> dict[str, PipelineLag | str]:
        """All at once; where one lacks a topic or a right, one by one: the others have theirs."""
        try:
            return {lag.pipeline: lag for lag in watch.look(time.time())}
        except ConfigurationError:
            found: dict[str, PipelineLag | str] = {}
            for name in self._config.pipelines:
                try:
                    (found[name],) = watch.look(time.time(), [name])
                except ConfigurationError as error:
                    found[name] = str(error)
                if self._stop.is_set():
                    break
                self._asks(self._offsets_source)
            return found

    def _read_reports(self) -> None:
        """Read all again after a failure: what was counted before it must not count twice."""
        with Reader(self._config.kafka, [self._config.telemetry.reports], start=LAST_REPORTS) as reader:
            with self._lock:
                self._series = {name: PipelineSeries() for name in self._config.pipelines}
                self._reading += 1
            for record in self._until_stopped(reader.read_until_end()):
                self._fold([record])
            with self._lock:
                for series in self._series.values():
                    series.know(_now_ms())
            self._answered(self._reports_source)
            while not self._stop.is_set():
                self._fold(reader.poll(0.2))

    def _fold(self, records: Iterable[Record]) -> None:
        now_ms = _now_ms()
        for record in records:
            report = read(record.value())
            if report is None:  # another program's record
                continue
            with self._lock:
                if report.pipeline in self._series or len(self._series) < len(self._config.pipelines) + MAX_STRANGERS:
                    self._series.setdefault(report.pipeline, PipelineSeries()).add(report, now_ms)

    def _follow_health(self) -> None:
        source = self.health.source
        self.health.follow(self._stop, lambda error: self._failed(source, error), lambda: self._answered(source))

    def _until_stopped(self, records: Iterable[Record]) -> Iterable[Record]:
        for record in records:
            if self._stop.is_set():
                return
            yield record


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
