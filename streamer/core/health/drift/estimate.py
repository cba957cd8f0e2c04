"""Accuracy without labels: what the confidence of answers says, where it is known how often a given confidence is
right. It sees that other texts come in. It does not see that the right answers have changed.

That is seen by the gap between this accuracy and what labels say. Both are of the same answers, those that have a
label, so that it does not matter which ones people chose: the same confidence is right less often than it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.windows.window import Window

LEAST_ANSWERS: Final = 100
"""With fewer answers, nothing is estimated."""


class Estimate(msgspec.Struct, frozen=True):
    """The accuracy to expect of so many answers, from `start_ms` up to `end_ms`."""

    start_ms: int
    end_ms: int
    answers: int
    accuracy: float


def expected(confidence: Sequence[int] | None, calibration: Calibration | None) -> float | None:
    """The accuracy to expect of answers whose confidence lies so in 20 bins; None where nothing was measured, or too
    little is known."""
    if calibration is None or confidence is None or sum(confidence) < LEAST_ANSWERS:
        return None
    return calibration.estimate(confidence)


def estimates(windows: Iterable[Window], calibration: Calibration | None) -> list[Estimate]:
    """The estimate of each window that has one."""
    return [
        Estimate(window.start_ms, window.end_ms, sum(window.confidence or []), accuracy)
        for window in windows
        if (accuracy := expected(window.confidence, calibration)) is not None
    ]


class Gap(NamedTuple):
    """The gap over `labels` answers: the share that is right, the share to expect, and how many standard deviations lie
    between them."""

    labels: int
    realised: float
    expected: float
    deviations: float

    @property
    def size(self) -> float:
        """Above 0 where fewer answers are right than expected."""
        return self.expected - self.realised


def gap_of(labelled: Calibration, known: Calibration) -> Gap | None:
    """The gap of answers whose confidence is known, by how often it was right when that was measured. None where more
    than a twentieth of them have a confidence of which nothing is known, and for weighted labels: their sums do not say
    how sure they are."""
    if not isinstance(labelled.total, int) or known.estimate([int(count) for count in labelled.counts]) is None:
        return None
    answers, right, expected, variance = 0, 0.0, 0.0, 0.0
    for count, hits, before, hits_before in zip(
        labelled.counts, labelled.right, known.counts, known.right, strict=True
    ):
        if count and before:
            answers += int(count)
            right += hits
            expected += count * hits_before / before
            # If nothing has changed both are samples of one share. None is taken for 0 or 1, however few there are.
            share = (hits + hits_before + 1) / (count + before + 2)
            variance += share * (1 - share) * count * (1 + count / before)
    size = (expected - right) / answers
    return Gap(answers, right / answers, expected / answers, size * answers / math.sqrt(variance))
