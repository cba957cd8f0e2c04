"""Accuracy without labels: what the confidence of answers says, where it is known how often a given confidence is
right. It sees that other texts come in. It does not see that the right answers have changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from streamer.core.health.calibration import Calibration
from streamer.core.health.window import Window

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
