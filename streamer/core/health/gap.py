"""The gap between the accuracy that the confidence of answers lets one expect and what their labels say.

Both are of the same answers, those that have a label, so that it does not matter which ones people chose. What is left
is that the same confidence is right less often than it was: the right answers have changed, not the texts alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from streamer.core.health.calibration import Calibration


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
