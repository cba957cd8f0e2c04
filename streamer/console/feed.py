"""What the page shows of the pipelines, gathered while it runs: reports, offsets, drivers' metrics, model health.

Each source has a thread that goes on trying; a source that is away shows as such, and the others go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streamer.config.load import Config
from streamer.console.board import Situation, pipeline_json
from streamer.console.bugs import named
from streamer.console.series import COLUMNS, PipelineSeries
from streamer.core.health import words
from streamer.core.record import Record
from streamer.core.report import Report
from streamer.errors import ConfigurationError, DependencyError, StreamerError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.reader import Reader
from streamer.kafka.replay import TopicLog
from streamer.ops.lag import LagWatch, PipelineLag, Tokens
from streamer.telemetry.scrape import Replica, scrape

BACK_RECORDS: Final = 20_000  # how far back each partition of the reports is read, transaction markers counted
LOOK_S: Final = 2.0
SELDOM_S: Final = 20.0
RETRY_S: Final = 3.0
NO_TOPIC_S: Final = 15.0
CLOSE_S: Final = 2.0
SILENT_MS: Final = 15_000  # how long a question may wait for the brokers before they count as away
MAX_FACT_CHARS: Final = 200

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Report).decode


@dataclass(slots=True)
class Source:
    """How reading goes. `error` is "" while it goes well, and None before the first answer. `asked_ms` is since when a
    question waits for its answer, None while none does: between two looks nobody is silent."""

    error: str | None = None
    answered_ms: int = 0
    asked_ms: int | None = None

    def is_well(self, now_ms: int) -> bool:
        """Whether it answers."""
        return self.error == "" and (self.asked_ms is None or now_ms - self.asked_ms < SILENT_MS)


class Feed:
    """Gathers in the background from `start` to `close`; `snapshot` may be called from any thread."""

    def __init__(self, config: Config, metrics_urls: Iterable[str]) -> None:
        self._config = config
        self._urls = list(metrics_urls)
        self._lock = threading.Lock()
        self._series = {name: PipelineSeries() for name in config.pipelines}
        self._reading = 0
        self._lags: dict[str, PipelineLag | str] = {}
        self._replicas: dict[str, tuple[Replica, float | None]] = {}
        self._silent: dict[str, str] = {}
        self._health: dict[str, dict[str, Any]] = {}
        self._offsets_source, self._reports_source, self._health_source = Source(), Source(), Source()
        self._stop = threading.Event()
        jobs: list[tuple[str, Callable[[], None], Source]] = [
            ("offsets", self._watch_offsets, self._offsets_source),
            ("health", self._read_health, self._health_source),
        ]
        if config.telemetry.reports:
            jobs.append(("reports", self._read_reports, self._reports_source))
        self._threads = [
            threading.Thread(target=self._keep_at, args=(work, source), name=f"console-{name}", daemon=True)
            for name, work, source in jobs
        ]
        if self._urls:
            self._threads.append(threading.Thread(target=self._watch_metrics, name="console-metrics", daemon=True))

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

    def snapshot(self, since_ms: int) -> dict[str, Any]:
        """All that is known, with the points of the series from `since_ms` up to `until_ms`. Where `reading` differs
        from an earlier one's, the series were read anew, and all their points are to be asked for again."""
        now_ms = _now_ms()
        with self._lock:
            offsets = self._offsets_source
            reached = offsets.is_well(now_ms)
            until_ms = now_ms if reached or not offsets.answered_ms else offsets.answered_ms
            replicas: dict[str, list[tuple[Replica, float | None]]] = {}
            for replica, mean in self._replicas.values():
                replicas.setdefault(replica.pipeline, []).append((replica, mean))
            situations = [
                Situation(name, self._config.pipelines.get(name), series, self._lags.get(name), replicas.get(name, []))
                for name, series in self._series.items()
            ]
            pipelines = [
                pipeline_json(each, reached=reached, since_ms=since_ms, until_ms=until_ms) for each in situations
            ]
            return {
                "now_ms": now_ms,
                "until_ms": until_ms,
                "reading": self._reading,
                "columns": COLUMNS,
                "kafka": self._kafka_json(reached, now_ms),
                "reports": {"topic": self._config.telemetry.reports or None, "error": self._reports_source.error},
                "drivers": {"asked": len(self._urls), "silent": dict(self._silent)},
                "health": {"error": self._health_source.error, "pipelines": dict(self._health)},
                "pipelines": pipelines,
            }

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
                self._failed(source, f"reading failed by a bug of ours: {named(error)}")
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
        offsets = GroupOffsets(self._config.kafka)
        slow = 0
        watches = {name: LagWatch(self._config, [name], offsets, Tokens()) for name in self._config.pipelines}
        while not self._stop.is_set():
            began = time.monotonic()
            for name, watch in watches.items():
                lag: PipelineLag | str
                self._asks(self._offsets_source)
                try:
                    (lag,) = watch.look(time.time())
                    slow = 0
                except ConfigurationError as error:  # this pipeline's topic or right; the others have theirs
                    lag = str(error)
                except DependencyError as error:  # one answer that is late is no outage, two in a row are
                    slow += 1
                    if slow > 1:
                        raise
                    _log.warning("a look at %s failed, and is repeated: %s", name, error)
                    continue
                self._answered(self._offsets_source)
                with self._lock:
                    self._lags[name] = lag
                    if isinstance(lag, PipelineLag):
                        self._series[name].note_lag(lag.records, _now_ms())
            self._stop.wait(LOOK_S if slow else min(max(LOOK_S, 4 * (time.monotonic() - began)), SELDOM_S))

    def _read_reports(self) -> None:
        """Read all again after a failure: what was counted before it must not count twice."""
        with Reader(self._config.kafka, [self._config.telemetry.reports], start=BACK_RECORDS) as reader:
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
            try:
                report = _decode(record.value() or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError):  # another program's record
                continue
            with self._lock:
                self._series.setdefault(report.pipeline, PipelineSeries()).add(report, now_ms)

    def _read_health(self) -> None:
        """How each rule stands for each pipeline; of records of other programs, their numbers and short texts."""
        log, topic = TopicLog(self._config.kafka), self._config.health.topic
        while log.describe([topic])[topic] is None:
            self._failed(self._health_source, f"there is no topic {topic}, the health app has not run here")
            if self._stop.wait(NO_TOPIC_S):
                return
        with Reader(self._config.kafka, [topic], start=200) as reader:
            self._answered(self._health_source)
            while not self._stop.is_set():
                for record in reader.poll(0.5):
                    if (word := words.decode(record.value())) is not None:
                        if isinstance(word, words.StateWord):
                            with self._lock:
                                self._health.setdefault(word.pipeline, {})[word.rule] = f"{word.state}: {word.what}"
                        continue
                    try:
                        facts = msgspec.json.decode(record.value() or b"", type=dict[str, Any])
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        continue
                    name = (record.key() or b"").decode("utf-8", "replace") or str(facts.get("pipeline", ""))
                    with self._lock:
                        self._health[name] = {key: fact for key, fact in facts.items() if _is_short(fact)}

    def _watch_metrics(self) -> None:
        with ThreadPoolExecutor(8, thread_name_prefix="console-scrape") as pool:
            while not self._stop.is_set():
                for url, answer in zip(self._urls, pool.map(_try_scrape, self._urls), strict=True):
                    with self._lock:
                        self._note_driver(url, answer)
                self._stop.wait(LOOK_S)

    def _note_driver(self, url: str, answer: Replica | str) -> None:
        before = self._replicas.pop(url, None)
        self._silent.pop(url, None)
        if isinstance(answer, str):
            self._silent[url] = answer
            return
        batches, records = answer.forward_batches, answer.forward_records
        if before and before[0].forward_batches <= batches and before[0].forward_records <= records:
            batches, records = batches - before[0].forward_batches, records - before[0].forward_records
        self._replicas[url] = answer, records / batches if batches else None

    def _until_stopped(self, records: Iterable[Record]) -> Iterable[Record]:
        for record in records:
            if self._stop.is_set():
                return
            yield record


def metrics_urls(config: Config) -> list[str]:
    """Where `streamer run` serves the metrics of these pipelines on this machine; none where the port is any."""
    host, _, port = config.telemetry.http.rpartition(":")
    if not host or not int(port):
        return []
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return [f"http://{here}:{int(port) + index}/metrics" for index in range(len(config.pipelines))]


def _try_scrape(url: str) -> Replica | str:
    try:
        return scrape(url)
    except DependencyError as error:
        return str(error)


def _is_short(fact: Any) -> bool:
    return isinstance(fact, bool | int | float) or (isinstance(fact, str) and len(fact) <= MAX_FACT_CHARS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
