"""The metrics of one pipeline, in a registry of their own; updated per settle, forward batch or look-up only."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from streamer.telemetry.catalogue import LATENCY_BOUNDS_S, METRICS, Metric

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody reads


class Histogram(Collector):
    """A histogram that takes many observations in one call. Its counts are safe to add from several threads."""

    def __init__(self, metric: Metric, own: Mapping[str, str]) -> None:
        self._metric = metric
        self._own = own
        self._lock = threading.Lock()
        self._counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def exemplify(self, value: float, trace_id: int, span_id: int) -> None:
        """Let the value's bucket name this trace, until there is a newer one."""
        ids = {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}"}
        with self._lock:
            self._exemplars[bisect_left(LATENCY_BOUNDS_S, value)] = Exemplar(ids, value, time.time())

    def add(self, counts: Iterable[tuple[float, int]], total: float) -> None:
        """Add observations as pairs of a value and how often it came, with the sum of all."""
        with self._lock:
            self._sum += total
            for value, count in counts:
                self._counts[bisect_left(LATENCY_BOUNDS_S, value)] += count

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The cumulated buckets, as Prometheus wants them."""
        with self._lock:
            counts, total, exemplars = list(self._counts), self._sum, dict(self._exemplars)
        family = HistogramMetricFamily(self._metric.name, self._metric.meaning, labels=tuple(self._own))
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        cumulated = 0
        for place, (bound, count) in enumerate(zip((*LATENCY_BOUNDS_S, inf), counts, strict=True)):
            cumulated += count
            bucket = "+Inf" if bound == inf else repr(bound), float(cumulated)
            buckets.append((*bucket, exemplars[place]) if place in exemplars else bucket)
        family.add_metric(tuple(self._own.values()), buckets, total)
        yield family


class Metrics:
    """All metrics of the catalogue for one pipeline, or for one of its members (from 1) on this machine. Safe to call
    from any thread; `labels` are the values of the metric's own, in their order."""

    def __init__(self, pipeline: str, member: int = 0) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"pipeline": pipeline, **({"member": str(member)} if member else {})}
        self._own = tuple(self._labels.values())
        self._counters: dict[Metric, Counter] = {}
        self._gauges: dict[Metric, Gauge] = {}
        self._histograms: dict[Metric, Histogram] = {}
        self._totals: dict[tuple[Metric, tuple[str, ...]], int] = {}
        for metric in METRICS:
            self._make(metric)

    def _make(self, metric: Metric) -> None:
        if metric.kind == "histogram":
            self._histograms[metric] = Histogram(metric, self._labels)
            self.registry.register(self._histograms[metric])
            return
        names, known = (*self._labels, *metric.labels), metric.known
        made: Counter | Gauge
        if metric.kind == "counter":
            made = self._counters[metric] = Counter(metric.name, metric.meaning, names, registry=self.registry)
            known = known if metric.labels else ((),)
        else:
            made = self._gauges[metric] = Gauge(metric.name, metric.meaning, names, registry=self.registry)
        for values in known:
            made.labels(*self._own, *values)

    def add(self, counter: Metric, amount: float = 1, *labels: str) -> None:
        """Count so many more."""
        self._counters[counter].labels(*self._own, *labels).inc(amount)

    def total(self, counter: Metric, total: int, *labels: str) -> None:
        """Follow a total that is counted elsewhere: what is new since the last call is added. For one thread."""
        self.add(counter, total - self._totals.get((counter, labels), 0), *labels)
        self._totals[counter, labels] = total

    def set(self, gauge: Metric, value: float, *labels: str) -> None:
        """Set what it is now."""
        self._gauges[gauge].labels(*self._own, *labels).set(value)

    def only(self, gauge: Metric, *labels: str) -> None:
        """Let 1 be the value for these labels, and no series be there for others."""
        self._gauges[gauge].clear()
        self.set(gauge, 1, *labels)

    def drop(self, gauge: Metric, *labels: str) -> None:
        """What these labels name is not ours any more, if it was: its series goes away."""
        with suppress(KeyError):
            self._gauges[gauge].remove(*self._own, *labels)

    def observe(self, histogram: Metric, value: float) -> None:
        """Add one observation."""
        self._histograms[histogram].add(((value, 1),), value)

    def exemplify(self, histogram: Metric, value: float, trace_id: int, span_id: int) -> None:
        """Name a trace with an observation like this one; told to those who ask for OpenMetrics."""
        self._histograms[histogram].exemplify(value, trace_id, span_id)

    def observe_all(self, histogram: Metric, counts: Iterable[tuple[float, int]], total: float) -> None:
        """Add observations as pairs of a value and how often it came, with the sum of all."""
        self._histograms[histogram].add(counts, total)
