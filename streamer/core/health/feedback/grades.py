"""Windows of labels as the health app says and shows them."""

from __future__ import annotations

from typing import Final

from streamer.core.health.evaluation.certainty import share_interval
from streamer.core.health.feedback.realised import Grade
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import DAY_MS, HOUR_MS, Fold
from streamer.core.health.words import QualityWord

MOST_LABELS: Final = 50
"""With more labels, their own numbers and the matrix are left out: they would make a record of megabytes."""
_OF_FILES: Final = frozenset({"answered", "accuracy_of_all"})
"""Feedback is on results: there are no texts without an answer among them."""


def told(grade: Grade, fold: Fold) -> QualityWord:
    """A window, with the results that it is a part of."""
    key, quality = grade.key, grade.quality
    few = len(quality.by_label()) <= MOST_LABELS
    results = _results(grade, fold)
    interval = None
    if quality.confusion is not None and quality.confusion.total == quality.answered:  # not weighted
        interval = tuple(share_interval(quality.confusion.right, quality.confusion.total))
    return QualityWord(
        pipeline=key.pipeline,
        revision=key.revision,
        start_ms=key.start_ms,
        length_ms=key.length_ms,
        labels=grade.places - grade.unjudged,
        unjudged=grade.unjudged,
        results=results,
        coverage=grade.places / results if results else None,
        lag_p50_s=grade.lags.keeps(0.5),
        lag_p90_s=grade.lags.keeps(0.9),
        metrics=numbers(quality),
        accuracy_interval=interval,  # type: ignore[arg-type]
        confusion=quality.confusion.cells if quality.confusion is not None and few else None,
        reliability=quality.calibration.table() if quality.calibration is not None else None,
    )


def numbers(quality: Quality) -> dict[str, float]:
    """All numbers by name that are defined."""
    few = len(quality.by_label()) <= MOST_LABELS
    found = quality.metrics() if quality.answered else {}
    return {
        name: value
        for name, value in found.items()
        if value is not None and name not in _OF_FILES and (few or "." not in name)
    }


def _results(grade: Grade, fold: Fold) -> int:
    """The results of a window that reports tell of. One that is no hour is of whole days."""
    key = grade.key
    windows = fold.windows(key.pipeline, HOUR_MS if key.length_ms == HOUR_MS else DAY_MS, key.start_ms)
    return sum(each.results for each in windows if each.revision == key.revision and each.start_ms < key.end_ms)
