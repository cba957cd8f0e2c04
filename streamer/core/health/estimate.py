"""Accuracy without labels: what the confidence of answers says, where it is known how often a given confidence is
right. It sees that other texts come in. It does not see that the right answers have changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from streamer.core.health.calibration import Calibration
from streamer.core.health.window import Window

LEAST_ANSWERS: Final = 100
"""Of fewer answers nothing is estimated."""


class Estimate(msgspec.Struct, frozen=True):
    """The accuracy to expect of so many answers, from `start_ms` up to `end_ms`."""

    start_ms: int
    end_ms: int
    answers: int
    accuracy: float


def estimate(window: Window, calibration: Calibration | None) -> Estimate | None:
    """What to expect of a window's answers; None where nothing was measured, or too little is known."""
    answers = sum(window.confidence or [])
    if calibration is None or window.confidence is None or answers < LEAST_ANSWERS:
        return None
    accuracy = calibration.estimate(window.confidence)
    return None if accuracy is None else Estimate(window.start_ms, window.end_ms, answers, accuracy)


def estimates(windows: Iterable[Window], calibration: Calibration | None) -> list[Estimate]:
    """Of each window that can be told of."""
    return [found for window in windows if (found := estimate(window, calibration)) is not None]
