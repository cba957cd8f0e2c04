"""The metrics of the health app, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from streamer.core.health.words import QualityWord

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody reads

REPORTS: Final = ("new", "repeated", "event", "unreadable")
FAILURES: Final = ("report", "feedback", "publish", "look_up", "webhook", "snapshot", "drift", "log")


class HealthMetrics:
    """Everything that the health app says of itself and of its rules. Safe to call from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reports = self._counter(
            "reports", "Records of the reports' topic: new, repeated, event (no counts), unreadable.", ("outcome",)
        )
        self._feedback = self._counter(
            "feedback",
            "Feedback by what became of it: matched, early (waits for its result), late, duplicate, unknown (names no"
            " place), no_result (a dead letter or skipped), refused (wrong schema; see the feedback's dead letters).",
            ("pipeline", "outcome"),
        )
        self._windows = self._counter("windows_written", "Windows said on the health topic.", ())
        self._failures = self._counter("failures", "What failed and was passed over or is tried again.", ("what",))
        self._caught_up = self._gauge("caught_up", "1 when all reports that were there at the start are folded.", ())
        self._delay = self._gauge("loop_delay_seconds", "How late the app's own timer came: busy above 1.", ())
        self._newest = self._gauge("newest_report_seconds", "When the newest report was made.", ("pipeline",))
        self._firing = self._gauge("rule_firing", "1 while a rule fires.", ("pipeline", "rule", "severity"))
        self._insufficient = self._gauge(
            "rule_insufficient", "1 while there are too few records to tell whether a rule holds.", ("pipeline", "rule")
        )
        self._value = self._gauge("rule_value", "What a rule measures now.", ("pipeline", "rule"))
        self._drift = self._gauge(
            "monitor_drift",
            "1 while a monitor says drift, 0 while it says ok; absent if there are too few records to tell.",
            ("pipeline", "revision", "monitor"),
        )
        self._accuracy = self._gauge(
            "estimated_accuracy",
            "Share of right answers that the confidence of the last five minutes suggests, without labels.",
            ("pipeline", "revision"),
        )
        self._quality = self._gauge(
            "quality",
            "What labels say of results within the horizon: accuracy, f1_macro, …",
            ("pipeline", "revision", "metric"),
        )
        self._labels = self._gauge("labels", "Results that have a label, within the horizon.", ("pipeline", "revision"))
        self._coverage = self._gauge("label_coverage", "The share of results that have one.", ("pipeline", "revision"))
        for outcome in REPORTS:
            self._reports.labels(outcome)
        for what in FAILURES:
            self._failures.labels(what)

    def report(self, outcome: str) -> None:
        """A record of the reports' topic was taken."""
        self._reports.labels(outcome).inc()

    def feedback(self, pipeline: str, outcome: str) -> None:
        """A record of the feedback topic got its outcome."""
        self._feedback.labels(pipeline, outcome).inc()

    def windows_written(self, count: int) -> None:
        """Windows were said."""
        self._windows.inc(count)

    def failure(self, what: str, count: int = 1) -> None:
        """Something failed that does not stop the app."""
        self._failures.labels(what).inc(count)

    def caught_up(self, done: bool) -> None:
        """Whether what was there at the start is folded."""
        self._caught_up.set(done)

    def loop_delay(self, seconds: float) -> None:
        """How late a timer of the event loop came."""
        self._delay.set(seconds)

    def newest_report(self, pipeline: str, time_ms: int) -> None:
        """When a pipeline's newest report was made."""
        self._newest.labels(pipeline).set(time_ms / 1000)

    def rule(self, pipeline: str, rule: str, severity: str, state: str, value: float | None) -> None:
        """How a rule stands."""
        self._firing.labels(pipeline, rule, severity).set(state == "firing")
        self._insufficient.labels(pipeline, rule).set(state == "insufficient")
        self._value.labels(pipeline, rule).set(float("nan") if value is None else value)

    def drift(self, monitors: Mapping[tuple[str, str, str], bool], accuracy: Mapping[tuple[str, str], float]) -> None:
        """Which monitors say drift, by pipeline, revision and name, and the accuracy that is estimated; what is not
        named is known no longer."""
        self._drift.clear()
        for labels, drifts in monitors.items():
            self._drift.labels(*labels).set(drifts)
        self._accuracy.clear()
        for (pipeline, revision), value in accuracy.items():
            self._accuracy.labels(pipeline, revision).set(value)

    def quality(self, words: Iterable[QualityWord]) -> None:
        """What labels say of each revision; a label's own numbers are on the pages alone."""
        for gauge in (self._quality, self._labels, self._coverage):
            gauge.clear()
        for word in words:
            own = word.pipeline, word.revision
            self._labels.labels(*own).set(word.labels)
            if word.coverage is not None:
                self._coverage.labels(*own).set(word.coverage)
            for name, value in word.metrics.items():
                if "." not in name:
                    self._quality.labels(*own, name).set(value)

    def page(self) -> tuple[str, bytes]:
        """The content type and body of /metrics."""
        content_type, _, _ = CONTENT_TYPE_PLAIN_0_0_4.partition("; charset")  # aiohttp refuses to name it
        return content_type, generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"streamer_health_{name}_total", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(f"streamer_health_{name}", meaning, labels, registry=self.registry)
