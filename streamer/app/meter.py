"""What the driver measures: facts and gauges, as metrics.

Called from the driver's loop, so all of it is per forward batch, per settle or per second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streamer import __version__
from streamer.app.driver import Observer
from streamer.cache.events import CacheEvent
from streamer.core.backlog import Drain, LogEnds
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import (
    Assigned,
    ForwardDone,
    Input,
    Lost,
    Revoking,
    Settled,
    Unsettled,
    WorkerLost,
    WorkerReady,
)
from streamer.core.read_progress import Ahead
from streamer.core.record import TopicPartition
from streamer.core.report import Report
from streamer.core.standing import Reason
from streamer.core.tally import Tally, is_durable
from streamer.core.timestamps import written_ms
from streamer.telemetry import catalogue as of
from streamer.telemetry.metrics import Metrics

GAUGES_EVERY_S = 1.0


@dataclass(slots=True)
class Meter(Observer):
    """Turns facts into metrics. `reports` holds each plan's report from its encoding to its end; `ahead` and `starts`
    are what lies before each partition, and where we began to read it; `totals` are counted elsewhere."""

    metrics: Metrics
    slot: str
    reports: dict[int, Report]
    ahead: Callable[[], Mapping[TopicPartition, Ahead]]
    starts: Callable[[], dict[TopicPartition, int]]
    totals: Mapping[of.Metric, Callable[[], int]] = field(default_factory=dict)
    cache_available: Callable[[], bool] | None = None
    behind: tuple[int, float] = (0, 0.0)
    """How many records are not settled, and the age of the oldest in seconds, as of the last second."""
    tally: Tally = field(default_factory=Tally)
    """What is durable since the start."""
    _settled_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    _lagging: set[TopicPartition] = field(default_factory=set)
    """Those whose lag was told."""
    _log_ends: LogEnds = field(default_factory=LogEnds)
    _drain: Drain = field(default_factory=Drain)
    _next_gauges: float = 0.0

    def facts(self, fact: Input) -> None:
        """Count what happened."""
        metrics = self.metrics
        match fact:
            case ForwardDone():
                if fact.seconds:  # else these could not be encoded, or are a part of a batch's answers
                    metrics.observe(of.FORWARD, fact.seconds)
                metrics.add(of.FORWARD_RECORDS, len(fact.numbers))
                metrics.add(of.FORWARD_PASSES, fact.passes)
                metrics.add(of.TOKENS, fact.real_tokens, "real")
                metrics.add(of.TOKENS, fact.computed_tokens, "computed")
            case Settled() | Unsettled():
                metrics.add(of.TRANSACTIONS, 1, fact.reason if isinstance(fact, Unsettled) else "settled")
                metrics.observe(of.SETTLE, fact.seconds)
                self._plan_ended(fact)
            case WorkerLost():
                metrics.add(of.WORKER_RESTARTS, 1, _reason(fact))
            case WorkerReady():
                card = fact.model
                metrics.only(of.INFO, __version__, self.slot, card.name, card.revision, card.device)
            case Assigned():
                metrics.add(of.REBALANCES, 1, "assigned")
            case Revoking() | Lost():
                metrics.add(of.REBALANCES, 1, "lost" if isinstance(fact, Lost) else "revoked")
                self._drop_lag(fact.partitions)

    def _plan_ended(self, fact: Settled | Unsettled) -> None:
        report = self.reports.pop(fact.settle, None)
        if report is None or not is_durable(fact, report):
            return
        self.tally.add(report)
        self.metrics.add(of.RECORDS, report.results, "result", "")
        for outcome, counts in (("dead_letter", report.dead_letters), ("skipped", report.skipped)):
            for code, count in counts.items():
                self.metrics.add(of.RECORDS, count, outcome, code)
        latency = report.latency_ms
        self.metrics.observe_all(
            of.EVENT_LATENCY, [(bound / 1000, count) for bound, count in latency.counts], latency.sum / 1000
        )
        for topic, partition, _, last in report.ranges:
            self._settled_offsets[topic, partition] = last + 1

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Set the gauges, and look at the totals, once a second."""
        if now < self._next_gauges:
            return
        self._next_gauges = now + GAUGES_EVERY_S
        metrics, oldest = self.metrics, pipeline.ledger.oldest
        metrics.set(of.HEAD_OF_LINE, max(now - oldest.taken, 0.0) if oldest else 0.0)
        metrics.set(of.IN_FLIGHT_BYTES, pipeline.flow.in_flight_bytes)
        metrics.set(of.HELD, pipeline.flow.holds)
        metrics.set(of.WORKERS_READY, pipeline.fleet.ready_workers)
        if self.cache_available is not None:
            metrics.set(of.CACHE_AVAILABLE, self.cache_available())
        for outcome, total in pipeline.answering.memory_lookups.items():
            metrics.total(of.CACHE_LOOKUPS, total, "memory", outcome)
        metrics.total(of.SPANS, pipeline.spans_capped, "capped")
        for metric, read in self.totals.items():
            metrics.total(metric, read())
        self._lag(pipeline, now)

    def _lag(self, pipeline: Pipeline, now: float) -> None:
        """Behind by records: the end that the client last heard of; by time: the age of the oldest record in flight,
        and at least for how long it has been seen to be there, whatever its producer's clock says."""
        now_ms = time.time() * 1000
        ahead, starts = self.ahead(), self.starts()
        waiting, oldest_s = 0, 0.0
        self._log_ends.keep(pipeline.ledger.partitions.keys())
        self._drop_lag(self._lagging - pipeline.ledger.partitions.keys())  # it was told until they were let go
        for key, partition in pipeline.ledger.partitions.items():
            settled = self._settled_offsets.get(key, starts.get(key, -1))
            seconds, there = 0.0, ahead.get(key)
            if there is not None and there.since is not None:
                seconds = now - there.since
            if partition.segments:
                batch, segment = partition.segments[0]
                first = segment.records[min(segment.planned, len(segment.records) - 1)]
                settled = first.offset() if settled < 0 else settled  # "from the beginning" is no offset
                then_ms = written_ms(first.timestamp())
                seconds = max(seconds, now - batch.taken, (now_ms - then_ms) / 1000 if then_ms is not None else 0.0)
                first_offset = first.offset()
            elif there is not None:
                first_offset = settled = max(settled, there.position)  # a transaction's markers are nobody's work
            if there is not None and there.high >= 0:
                seconds = max(seconds, self._log_ends.waited_s(key, first_offset, there.high, now))
            behind = max(there.high - settled, 0) if settled >= 0 and there is not None else 0
            self.metrics.set(of.LAG_RECORDS, behind, key[0], str(key[1]))
            self.metrics.set(of.LAG_SECONDS, seconds, key[0], str(key[1]))
            self._lagging.add(key)
            waiting, oldest_s = waiting + behind, max(oldest_s, seconds)
        self.behind = waiting, oldest_s
        self.metrics.set(of.DRAIN, self._drain.look(now, waiting, self.tally.records, oldest_s))

    def _drop_lag(self, partitions: Iterable[TopicPartition]) -> None:
        for key in list(partitions):
            self.metrics.drop(of.LAG_RECORDS, key[0], str(key[1]))
            self.metrics.drop(of.LAG_SECONDS, key[0], str(key[1]))
            self._settled_offsets.pop(key, None)
            self._lagging.discard(key)


def _reason(fact: WorkerLost) -> str:
    if fact.failure is not None:
        return fact.failure.value
    if fact.hung:
        return "hung"
    return "killed" if fact.signal else "exit"


def show_stuck(metrics: Metrics, partitions: Mapping[Reason, int]) -> None:
    """How many partitions stand now, by every reason."""
    for reason, count in partitions.items():
        metrics.set(of.STUCK, count, reason.value)


_STORES = {CacheEvent.STORED: "stored", CacheEvent.STORE_DROPPED: "dropped", CacheEvent.STORE_FAILED: "failed"}


def count_cache(metrics: Metrics, event: CacheEvent, keys: int) -> None:
    """Count what happens at the shared cache; from any thread."""
    if event in _STORES:
        metrics.add(of.CACHE_STORES, keys, _STORES[event])
    else:
        metrics.add(of.CACHE_LOOKUPS, keys, "shared", event.value)
