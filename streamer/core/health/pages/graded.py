"""What feedback says of a revision, as pages show it: day by day, and the days together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streamer.core.health.evaluation.headline import metric_words
from streamer.core.health.quality.calibration import Bin
from streamer.core.health.quality.counts import Count
from streamer.core.health.sums import added
from streamer.core.health.words import QualityWord

MAIN: Final = ("accuracy", "f1_micro", "exact_match", "rouge_l", "mae")
"""The number that is shown over time is the first of these that there is."""
_LEFT_OUT: Final = ("answered", "accuracy_of_all", "precision_", "recall_", "f1_weighted")


class Day(msgspec.Struct, frozen=True):
    """A day of a revision: its labels, the share of all results that have one, how late they came, and the numbers
    by their names in words."""

    start_ms: int
    labels: int
    unjudged: int
    coverage: float | None
    lag_p50_s: int | None
    lag_p90_s: int | None
    interval: tuple[float, float] | None
    metrics: dict[str, float]


class Graded(msgspec.Struct, frozen=True):
    """A revision, the newest day first. The matrix and the reliability table are of all days together, None where
    there is none."""

    revision: str
    labels: int
    days: list[Day]
    confusion: dict[str, dict[str, Count]] | None
    reliability: list[Bin] | None


def main_metric(word: QualityWord) -> tuple[str, float] | None:
    """The number to look at first, by its name; None without any."""
    return next(((name, word.metrics[name]) for name in MAIN if name in word.metrics), None)


def graded(revision: str, words: Sequence[QualityWord]) -> Graded:
    """What is said of the days of one revision."""
    days = sorted(words, key=lambda word: -word.start_ms)
    return Graded(
        revision=revision,
        labels=sum(word.labels for word in days),
        days=[_day(word) for word in days],
        confusion=added([word.confusion or None for word in days]),
        reliability=_reliability([each for word in days for each in word.reliability or ()]),
    )


def _day(word: QualityWord) -> Day:
    shown = {name: value for name, value in word.metrics.items() if "." not in name and not name.startswith(_LEFT_OUT)}
    if word.confusion is not None:
        shown.pop("f1_micro", None)  # where each text has one label, that is the accuracy
    return Day(
        start_ms=word.start_ms,
        labels=word.labels,
        unjudged=word.unjudged,
        coverage=word.coverage,
        lag_p50_s=word.lag_p50_s,
        lag_p90_s=word.lag_p90_s,
        interval=word.accuracy_interval,
        metrics={metric_words(name): value for name, value in shown.items()},
    )


def _reliability(bins: Sequence[Bin]) -> list[Bin] | None:
    by_edge: dict[tuple[float, float], list[Bin]] = {}
    for one in bins:
        by_edge.setdefault((one.low, one.high), []).append(one)
    return [_together(each) for _, each in sorted(by_edge.items())] or None


def _together(bins: Sequence[Bin]) -> Bin:
    count = sum(one.count for one in bins)
    confidence = sum(one.count * one.confidence for one in bins) / count
    accuracy = sum(one.count * one.accuracy for one in bins) / count
    return Bin(bins[0].low, bins[0].high, count, confidence, accuracy)
