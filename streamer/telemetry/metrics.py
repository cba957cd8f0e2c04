"""The metrics of one pipeline, in a registry of their own; updated per settle, forward batch or look-up only."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from streamer.core.standing import Reason
from streamer.telemetry import catalogue
from streamer.telemetry.catalogue import Metric

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody reads


class Histogram(Collector):
    """A histogram that takes many observations in one call. Its counts are safe to add from several threads."""

    def __init__(self, metric: Metric, pipeline: str) -> None:
        self._metric = metric
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._counts = [0] * (len(metric.bounds) + 1)
        self._sum = 0.0

    def add(self, counts: Iterable[tuple[float, int]], total: float) -> None:
        """Add observations as pairs of a value and how often it came, with the sum of all."""
        bounds = self._metric.bounds
        with self._lock:
            self._sum += total
            for value, count in counts:
                self._counts[bisect_left(bounds, value)] += count

    def observe(self, value: float) -> None:
        """Add one observation."""
        self.add(((value, 1),), value)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The cumulated buckets, as Prometheus wants them."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        family = HistogramMetricFamily(self._metric.name, self._metric.meaning, labels=("pipeline",))
        buckets: list[tuple[str, float]] = []
        cumulated = 0
        for bound, count in zip((*self._metric.bounds, inf), counts, strict=True):
            cumulated += count
            buckets.append(("+Inf" if bound == inf else repr(bound), float(cumulated)))
        family.add_metric((self._pipeline,), buckets, total)
        yield family


class Metrics:
    """Everything that is measured of one pipeline. Safe to call from any thread; nothing raises."""

    def __init__(self, pipeline: str) -> None:
        self.registry = CollectorRegistry()
        self._pipeline = pipeline
        self._records = self._counter(catalogue.RECORDS)
        self._event_latency = self._histogram(catalogue.EVENT_LATENCY)
        self._lag_records = self._gauge(catalogue.LAG_RECORDS)
        self._lag_seconds = self._gauge(catalogue.LAG_SECONDS)
        self._drain = self._gauge(catalogue.DRAIN)
        self._head_of_line = self._gauge(catalogue.HEAD_OF_LINE)
        self._in_flight_bytes = self._gauge(catalogue.IN_FLIGHT_BYTES)
        self._held = self._gauge(catalogue.HELD)
        self._forward = self._histogram(catalogue.FORWARD)
        self._forward_records = self._counter(catalogue.FORWARD_RECORDS)
        self._forward_passes = self._counter(catalogue.FORWARD_PASSES)
        self._tokens = self._counter(catalogue.TOKENS)
        self._cache_lookups = self._counter(catalogue.CACHE_LOOKUPS)
        self._cache_stores = self._counter(catalogue.CACHE_STORES)
        self._cache_available = self._gauge(catalogue.CACHE_AVAILABLE)
        self._workers_ready = self._gauge(catalogue.WORKERS_READY)
        self._worker_restarts = self._counter(catalogue.WORKER_RESTARTS)
        self._transactions = self._counter(catalogue.TRANSACTIONS)
        self._settle = self._histogram(catalogue.SETTLE)
        self._rebalances = self._counter(catalogue.REBALANCES)
        self._spans = self._counter(catalogue.SPANS)
        self._out_of_range = self._counter(catalogue.OUT_OF_RANGE)
        self._stuck = self._gauge(catalogue.STUCK)
        self._unstuck = self._counter(catalogue.UNSTUCK)
        self._bad_traceparents = self._counter(catalogue.BAD_TRACEPARENTS)
        self._info = self._gauge(catalogue.INFO)

    def records(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Settled records by (outcome, code); the code of a result is ""."""
        for (outcome, code), count in counts.items():
            self._records.labels(self._pipeline, outcome, code).inc(count)

    def event_latency(self, counts: Iterable[tuple[float, int]], total_s: float) -> None:
        """Latencies of settled records: pairs of seconds and how often, and the sum of all in seconds."""
        self._event_latency.add(counts, total_s)

    def lag(self, topic: str, partition: int, records: int, seconds: float) -> None:
        """What an owned partition has before it."""
        self._lag_records.labels(self._pipeline, topic, str(partition)).set(records)
        self._lag_seconds.labels(self._pipeline, topic, str(partition)).set(seconds)

    def drain(self, seconds: float) -> None:
        """How long settling what waits takes."""
        self._drain.labels(self._pipeline).set(seconds)

    def no_lag(self, topic: str, partition: int) -> None:
        """The partition is somebody else's now: its gauges go away."""
        for gauge in (self._lag_records, self._lag_seconds):
            with suppress(KeyError):
                gauge.remove(self._pipeline, topic, str(partition))

    def in_flight(self, size_bytes: int, head_of_line_s: float, *, held: bool) -> None:
        """The state of the pipeline's memory, once a tick."""
        self._in_flight_bytes.labels(self._pipeline).set(size_bytes)
        self._head_of_line.labels(self._pipeline).set(head_of_line_s)
        self._held.labels(self._pipeline).set(held)

    def forward(self, seconds: float, records: int, passes: int, real_tokens: int, computed_tokens: int) -> None:
        """One forward batch ended."""
        self._forward.observe(seconds)
        self._forward_records.labels(self._pipeline).inc(records)
        self._forward_passes.labels(self._pipeline).inc(passes)
        self._tokens.labels(self._pipeline, "real").inc(real_tokens)
        self._tokens.labels(self._pipeline, "computed").inc(computed_tokens)

    def cache_lookups(self, tier: str, outcome: str, keys: int) -> None:
        """Keys looked up in a tier: memory or shared."""
        self._cache_lookups.labels(self._pipeline, tier, outcome).inc(keys)

    def cache_stores(self, outcome: str, keys: int) -> None:
        """Keys given to the shared cache: stored, dropped or failed."""
        self._cache_stores.labels(self._pipeline, outcome).inc(keys)

    def cache_available(self, available: bool) -> None:
        """Whether the shared cache is asked."""
        self._cache_available.labels(self._pipeline).set(available)

    def workers_ready(self, workers: int) -> None:
        """How many workers take work."""
        self._workers_ready.labels(self._pipeline).set(workers)

    def worker_restart(self, reason: str) -> None:
        """A worker was lost: exit, killed, hung, device or code."""
        self._worker_restarts.labels(self._pipeline, reason).inc()

    def settled(self, outcome: str, seconds: float) -> None:
        """A settle ended: `settled`, or the reason why not."""
        self._transactions.labels(self._pipeline, outcome).inc()
        self._settle.observe(seconds)

    def rebalance(self, kind: str) -> None:
        """Partitions were assigned, revoked or lost."""
        self._rebalances.labels(self._pipeline, kind).inc()

    def spans(self, outcome: str, spans: int) -> None:
        """Spans sent, dropped or capped."""
        self._spans.labels(self._pipeline, outcome).inc(spans)

    def out_of_range(self, records: int) -> None:
        """Records that retention deleted before they were read."""
        self._out_of_range.labels(self._pipeline).inc(records)

    def stuck(self, partitions: Mapping[Reason, int]) -> None:
        """Partitions that stand now, by every reason."""
        for reason, count in partitions.items():
            self._stuck.labels(self._pipeline, reason.value).set(count)

    def unstuck(self, partitions: int) -> None:
        """Partitions that moved on when they were sought anew."""
        self._unstuck.labels(self._pipeline).inc(partitions)

    def bad_traceparents(self, records: int) -> None:
        """Records whose trace context is not valid."""
        self._bad_traceparents.labels(self._pipeline).inc(records)

    def info(self, version: str, slot: str, model: str, revision: str, device: str) -> None:
        """What runs here; replaces what was said before."""
        self._info.clear()
        self._info.labels(self._pipeline, version, slot, model, revision, device).set(1)

    def _counter(self, metric: Metric) -> Counter:
        counter = Counter(metric.name, metric.meaning, ("pipeline", *metric.labels), registry=self.registry)
        for values in metric.known if metric.labels else ((),):
            counter.labels(self._pipeline, *values)
        return counter

    def _gauge(self, metric: Metric) -> Gauge:
        gauge = Gauge(metric.name, metric.meaning, ("pipeline", *metric.labels), registry=self.registry)
        for values in metric.known:
            gauge.labels(self._pipeline, *values)
        return gauge

    def _histogram(self, metric: Metric) -> Histogram:
        histogram = Histogram(metric, self._pipeline)
        self.registry.register(histogram)
        return histogram
