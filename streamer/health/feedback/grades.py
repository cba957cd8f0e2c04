"""What feedback says of models: as pages, as words for the topic, as metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from streamer.core.health.feedback.grades import told
from streamer.core.health.feedback.realised import LENGTHS
from streamer.core.health.windows.fold import DAY_MS, HOUR_MS, Fold
from streamer.core.health.words import QualityWord, WindowKey
from streamer.health.app import Page
from streamer.health.feedback.labels import Labels
from streamer.health.pages import json_page
from streamer.telemetry.health_metrics import HealthMetrics

SAY_EVERY_S: Final = 15.0
COUNT_EVERY_S: Final = 60.0
MAX_WINDOWS: Final = 500


class Grades:
    """Says what `labels` have come to."""

    def __init__(self, labels: Labels, metrics: HealthMetrics) -> None:
        self._labels, self._metrics = labels, metrics
        self._say_at = self._count_at = 0.0

    def words(self, fold: Fold, now_s: float, now_ms: int, *, final: bool) -> list[QualityWord]:
        """The windows that have changed since they were said; they count as said from now on."""
        realised = self._labels.joiner.realised
        due = bool(realised.changed) and (now_s >= self._say_at or final)
        if due or now_s >= self._count_at:
            self._count_at = now_s + COUNT_EVERY_S
            self._labels.joiner.forget(now_ms)
            self._metrics.quality(self._totals(fold, now_ms))
        if not due:
            return []
        self._say_at = now_s + SAY_EVERY_S
        keys, realised.changed = sorted(realised.changed), set()
        return [told(grade, fold) for key in keys if (grade := realised.grade(key)) is not None]

    def say_again(self, words: Iterable[QualityWord]) -> None:
        """These could not be said after all."""
        for each in words:
            key = WindowKey(each.pipeline, each.revision, each.start_ms, each.length_ms)
            self._labels.joiner.realised.changed.add(key)

    def feedback_page(self, fold: Fold, now_ms: int) -> Page:
        """/feedback: what became of the feedback on each pipeline; "" is what names none."""
        joiner = self._labels.joiner
        joiner.count_waiting(self._labels.ids.waiting())
        totals: dict[str, list[QualityWord]] = {}
        for word in self._totals(fold, now_ms):
            totals.setdefault(word.pipeline, []).append(word)
        pipelines = {}
        for name, tally in sorted(joiner.tallies.items()):
            revisions = {word.revision: _brief(word) for word in totals.get(name, ())}
            pipelines[name] = {"outcomes": tally.outcomes, "waiting": tally.waiting, "revisions": revisions}
        return json_page({"horizon_s": joiner.horizon_s, "pipelines": pipelines})

    def quality_page(self, fold: Fold, now_ms: int, query: Mapping[str, str]) -> Page:
        """/quality?pipeline=NAME&length_ms=3600000&since_ms=…: all numbers of each revision within the horizon, and of
        the windows of one length, oldest first."""
        try:
            length_ms, since_ms = int(query.get("length_ms", HOUR_MS)), int(query.get("since_ms", 0))
        except ValueError:
            return json_page({"error": "length_ms and since_ms are whole numbers of milliseconds"}, 400)
        if length_ms not in LENGTHS:
            return json_page({"error": f"length_ms is one of {', '.join(map(str, LENGTHS))}"}, 400)
        wanted = query.get("pipeline")
        realised = self._labels.joiner.realised
        grades = [
            grade
            for name in sorted(realised.pipelines())
            if wanted in (None, name)
            for grade in realised.grades(name, length_ms, since_ms)
        ]
        grades.sort(key=lambda grade: grade.key.start_ms)
        totals = [word for word in self._totals(fold, now_ms) if wanted in (None, word.pipeline)]
        windows = [told(grade, fold) for grade in grades[-MAX_WINDOWS:]]
        return json_page({"totals": totals, "windows": windows, "left_out": max(len(grades) - MAX_WINDOWS, 0)})

    def _totals(self, fold: Fold, now_ms: int) -> list[QualityWord]:
        """Each revision of each pipeline, over all that is within the horizon."""
        joiner = self._labels.joiner
        start_ms = joiner.since_ms(now_ms)
        length_ms = now_ms // DAY_MS * DAY_MS + DAY_MS - start_ms
        keys = [
            WindowKey(pipeline, revision, start_ms, length_ms)
            for pipeline, revisions in sorted(joiner.realised.pipelines().items())
            for revision in sorted(revisions)
        ]
        return [told(grade, fold) for key in keys if (grade := joiner.realised.grade(key)) is not None]


def _brief(word: QualityWord) -> dict[str, Any]:
    names = ("labels", "unjudged", "results", "coverage", "lag_p50_s", "lag_p90_s")
    found = {name: getattr(word, name) for name in names}
    return {**found, "accuracy": word.metrics.get("accuracy")}
