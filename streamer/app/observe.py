"""What the driver tells the world about itself: spans of micro-batches and records, metrics of everything.

Called from the driver's loop, so all of it is per micro-batch, per forward batch, per settle or per second; per record
only where a producer sent a trace context.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from streamer import __version__
from streamer.cache.events import CacheEvent
from streamer.core.backlog import Drain
from streamer.core.outlook import Ahead
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import (
    Assigned,
    ForwardDone,
    Input,
    Lost,
    Revoking,
    Settled,
    SinkFailed,
    Unsettled,
    WorkerLost,
    WorkerReady,
)
from streamer.core.record import Answer, MicroBatch, Segment, TopicPartition
from streamer.core.report import Report
from streamer.core.standing import Reason, Standing, Standings
from streamer.core.tally import is_durable
from streamer.core.timestamps import written_ms
from streamer.core.unanswered import ReadState, Unanswered
from streamer.errors import DataFailure, ExitCode
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.spans import Link, MicroBatchSpan, RecordSpan, SpanExporter

GAUGES_EVERY_S = 1.0
SINK_STANDING_S = 90.0
SLOW_PLAN_S = 5.0

log = logging.getLogger(__name__)


class Tracer:
    """Ends the spans of micro-batches, and of records whose producer sampled them."""

    def __init__(self, exporter: SpanExporter, pipeline: str, group: str) -> None:
        self._exporter = exporter
        self._pipeline = pipeline
        self._group = group

    def micro_batch_done(self, batch: MicroBatch) -> None:
        """Give the micro-batch's spans to the exporter."""
        end_ns = time.time_ns()
        links: list[Link] = []
        records: list[RecordSpan] = []
        for segment in batch.segments:
            if segment.traces is not None:
                links += _links(segment)
            if segment.spans is not None and not segment.dropped:
                records += _record_spans(segment, batch.taken_ns, end_ns)
        size = sum(len(segment.records) for segment in batch.segments)
        dropped = sum(len(segment.records) for segment in batch.segments if segment.dropped)
        span = MicroBatchSpan(
            batch.trace_id,
            batch.span_id,
            batch.taken_ns,
            end_ns,
            self._pipeline,
            tuple(sorted({segment.topic for segment in batch.segments})),
            self._group,
            size,
            links,
            {"dead_letters": sum(segment.failures for segment in batch.segments), "dropped": dropped},
        )
        self._exporter.offer([span, *records])

    def facts(self, fact: Input) -> None:
        """Spans come of micro-batches alone."""

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Spans come of micro-batches alone."""


def _links(segment: Segment) -> list[Link]:
    topic, partition = segment.topic, segment.partition
    return [
        Link(trace.trace_id, trace.span_id, topic, partition, record.offset())
        for record, trace in zip(segment.records, segment.traces or (), strict=True)
        if trace is not None
    ]


def _record_spans(segment: Segment, start_ns: int, end_ns: int) -> list[RecordSpan]:
    spans = []
    columns = zip(segment.spans or (), segment.traces or (), segment.records, segment.outcomes, strict=True)
    for span_id, trace, record, outcome in columns:
        if not span_id or trace is None or outcome is None:
            continue
        kind, code = "result", ""
        if isinstance(outcome, DataFailure):
            kind, code = "dead_letter", outcome.code.value
        elif not isinstance(outcome, Answer):
            kind, code = "skipped", outcome.reason
        place = (segment.topic, segment.partition, record.offset())
        spans.append(RecordSpan(trace.trace_id, span_id, trace.span_id, start_ns, end_ns, *place, kind, code))
    return spans


@dataclass(slots=True)
class Follow:
    """A total that is counted elsewhere, and the metric that follows it."""

    read: Callable[[], int]
    add: Callable[[int], None]
    _before: int = 0

    def look(self) -> None:
        """Add what is new."""
        total = self.read()
        self.add(total - self._before)
        self._before = total


@dataclass(slots=True)
class Meter:
    """Turns facts into metrics. `reports` holds each plan's report from its encoding to its end; `ahead` and `starts`
    are what lies before each partition, and where we began to read it. `on_settled` hears of each report whose plan is
    durable."""

    metrics: Metrics
    slot: str
    reports: dict[int, Report]
    ahead: Callable[[], Mapping[TopicPartition, Ahead]]
    starts: Callable[[], dict[TopicPartition, int]]
    cache_available: Callable[[], bool] | None = None
    follows: tuple[Follow, ...] = ()
    on_settled: Callable[[Report], None] = lambda _: None
    behind: tuple[int, float] = (0, 0.0)
    """How many records are not settled, and the age of the oldest in seconds, as of the last second."""
    _settled_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    _lookups: dict[str, int] = field(default_factory=dict)
    _capped: int = 0
    _records: int = 0
    _drain: Drain = field(default_factory=Drain)
    _next_gauges: float = 0.0

    def micro_batch_done(self, batch: MicroBatch) -> None:
        """Metrics come of facts."""

    def facts(self, fact: Input) -> None:
        """Count what happened."""
        metrics = self.metrics
        match fact:
            case ForwardDone():
                tokens = (fact.real_tokens, fact.computed_tokens)
                metrics.forward(fact.seconds, len(fact.numbers), fact.passes, *tokens)
            case Settled():
                metrics.settled("settled", fact.seconds)
                self._plan_ended(fact)
            case Unsettled():
                metrics.settled(fact.reason, fact.seconds)
                self._plan_ended(fact)
            case WorkerLost():
                metrics.worker_restart(_reason(fact))
            case WorkerReady():
                card = fact.model
                metrics.info(__version__, self.slot, card.name, card.revision, card.device)
            case Assigned():
                metrics.rebalance("assigned")
            case Revoking() | Lost():
                metrics.rebalance("lost" if isinstance(fact, Lost) else "revoked")
                for key in fact.partitions:
                    metrics.no_lag(*key)
                    self._settled_offsets.pop(key, None)

    def _plan_ended(self, fact: Settled | Unsettled) -> None:
        report = self.reports.pop(fact.settle, None)
        if report is None or not is_durable(fact, report):
            return
        self.on_settled(report)
        counts = {("result", ""): report.results}
        counts |= {("dead_letter", code): count for code, count in report.dead_letters.items()}
        counts |= {("skipped", reason): count for reason, count in report.skipped.items()}
        self.metrics.records(counts)
        latency = report.latency_ms
        self.metrics.event_latency([(bound / 1000, count) for bound, count in latency.counts], latency.sum / 1000)
        for topic, partition, _, last in report.ranges:
            self._settled_offsets[topic, partition] = last + 1
        self._records += report.results + sum(report.dead_letters.values()) + sum(report.skipped.values())

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Set the gauges, once a second."""
        if now < self._next_gauges:
            return
        self._next_gauges = now + GAUGES_EVERY_S
        metrics = self.metrics
        oldest = pipeline.ledger.oldest
        waited_s = max(now - oldest.taken, 0.0) if oldest else 0.0
        metrics.in_flight(pipeline.flow.in_flight_bytes, waited_s, held=pipeline.flow.holds)
        metrics.workers_ready(pipeline.fleet.ready_workers)
        for outcome, total in pipeline.answering.memory_lookups.items():
            metrics.cache_lookups("memory", outcome, total - self._lookups.get(outcome, 0))
            self._lookups[outcome] = total
        metrics.spans("capped", pipeline.spans_capped - self._capped)
        self._capped = pipeline.spans_capped
        for follow in self.follows:
            follow.look()
        if self.cache_available is not None:
            metrics.cache_available(self.cache_available())
        self._lag(pipeline, now)

    def _lag(self, pipeline: Pipeline, now: float) -> None:
        """Behind by records: the end that the client last heard of; by time: the oldest record in flight, or how long
        nothing could be read although there is something."""
        now_ms = time.time() * 1000
        ahead, starts = self.ahead(), self.starts()
        waiting, oldest_s = 0, 0.0
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
                seconds = max(seconds, now - batch.taken if then_ms is None else (now_ms - then_ms) / 1000)
            elif there is not None:
                settled = max(settled, there.position)  # the markers of transactions are nobody's work
            behind = max(there.high - settled, 0) if settled >= 0 and there is not None else 0
            self.metrics.lag(*key, behind, seconds)
            waiting, oldest_s = waiting + behind, max(oldest_s, seconds)
        self.behind = waiting, oldest_s
        self.metrics.drain(self._drain.look(now, waiting, self._records, oldest_s))


@dataclass(slots=True)
class Watchdog:
    """Lets the sink leave calls of librdkafka that do not return, and ends the process where it stands all the same: a
    restart is safe."""

    busy_since: Callable[[], float | None]
    relieve: Callable[[float], None]
    give_up: Callable[[SinkFailed], None]
    limit_s: float = SINK_STANDING_S
    _gave_up: bool = False

    def micro_batch_done(self, batch: MicroBatch) -> None:
        """Time alone matters."""

    def facts(self, fact: Input) -> None:
        """Time alone matters."""

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Look at the clock."""
        self.relieve(now)
        since = self.busy_since()
        if since is not None and now - since > self.limit_s and not self._gave_up:
            self._gave_up = True
            message = f"the Kafka producer has not answered for {now - since:.0f} s: start this process again"
            self.give_up(SinkFailed(ExitCode.DEPENDENCY, message))


class Gauge(Protocol):
    """Where it is shown how many partitions stand."""

    def stuck(self, partitions: Mapping[Reason, int]) -> None: ...


def _say(one: Standing) -> None:
    topic, partition = one.partition
    data = {"topic": topic, "partition": partition, "offset": one.offset, "reason": one.reason.value}
    log.error("%s", one, extra={"data": data})


@dataclass(slots=True)
class Signals:
    """Says what stands, and why: to the metrics, by `say` to the log, and to whoever asks for `standings`. `origins`
    are all those who may know of a partition that stands; each names all that it knows of. What none of them names and
    gets no answer all the same, the general rule names; `ahead` is what the source knows for it of the partitions that
    are ours."""

    metrics: Gauge
    origins: tuple[Callable[[], Iterable[Standing]], ...]
    ahead: Callable[[], Mapping[TopicPartition, ReadState]]
    say: Callable[[Standing], None] = _say
    standings: Standings = field(default_factory=Standings)
    _unanswered: Unanswered = field(default_factory=Unanswered)
    _next_look: float = 0.0

    def micro_batch_done(self, batch: MicroBatch) -> None:
        """Time alone matters."""

    def facts(self, fact: Input) -> None:
        """Note that workers answer."""
        if isinstance(fact, ForwardDone):
            self._unanswered.computed()

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Ask all, once a second."""
        if now < self._next_look:
            return
        self._next_look = now + GAUGES_EVERY_S
        found = [one for origin in self.origins for one in origin()]
        named = {one.partition for one in found}
        for one in self._unanswered.look(pipeline, self.ahead(), now):
            topic, _ = one.partition
            if one.partition not in named and (topic, -1) not in named:
                found.append(one)
        for one in self.standings.look(found, now):
            self.say(one)
        self.metrics.stuck(self.standings.counts())


def unready(pipeline: Pipeline, *, owns: bool, plan_since: float | None, standings: Standings, now: float) -> list[str]:
    """What keeps a pipeline from serving, for /readyz; broken dependencies are among the reasons. `owns` says whether
    any partition is ours, `plan_since` since when one plan is being settled."""
    reasons = []
    if pipeline.fleet.ready_workers == 0:
        reasons.append("no worker is ready")
    if not owns:
        reasons.append("no partition is assigned")
    if pipeline.settling.in_vain > 2:
        reasons.append(f"{pipeline.settling.in_vain} settles in a row were rolled back")
    if plan_since is not None and now - plan_since > SLOW_PLAN_S:
        reasons.append(f"a settle has been under way for {now - plan_since:.0f} s: Kafka is slow or away")
    return [*reasons, *map(str, standings.current)]


def _reason(fact: WorkerLost) -> str:
    if fact.failure is not None:
        return fact.failure.value
    if fact.hung:
        return "hung"
    return "killed" if fact.signal else "exit"


def on_cache_event(metrics: Metrics) -> Callable[[CacheEvent, int], None]:
    """Counts what happens at the shared cache."""

    def count(event: CacheEvent, keys: int) -> None:
        match event:
            case CacheEvent.STORED:
                metrics.cache_stores("stored", keys)
            case CacheEvent.STORE_DROPPED:
                metrics.cache_stores("dropped", keys)
            case CacheEvent.STORE_FAILED:
                metrics.cache_stores("failed", keys)
            case _:
                metrics.cache_lookups("shared", event.value, keys)

    return count
