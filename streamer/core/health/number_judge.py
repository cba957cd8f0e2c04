"""Hold a number to the true one, and a language model to its texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from streamer.core.health.perplexity import Perplexity
from streamer.core.health.quality import Quality
from streamer.core.health.regression import Regression
from streamer.core.health.verdict import Verdict

EXACT_UP_TO: Final = 200_000
"""Texts of which Spearman's correlation is exact; of more it is that of a uniform sample of so many."""


class NumberJudge:
    """similarity."""

    value_name = "mean absolute error"
    lower = True
    needs_label = True

    def read(self, label: Any, text: str) -> float:
        """A number."""
        number = number_of(label)
        if number is None:
            raise ValueError("is not a finite number")
        return number

    def add(self, quality: Quality, truth: float, output: Mapping[str, Any], key: bytes) -> Verdict:
        """By distance and rank."""
        if not isinstance(score := output.get("score"), int | float):
            raise ValueError(
                "can't be compared: the model's answer has no field 'score'; give a text_pair, no candidates"
            )
        return judged_number(quality, truth, float(score), key)


class ScoringJudge:
    """scoring: the text itself is what the model is held to."""

    value_name = "nats a token"
    lower = True
    needs_label = False

    def read(self, label: Any, text: str) -> None:
        """Nothing."""

    def add(self, quality: Quality, truth: None, output: Mapping[str, Any], key: bytes) -> Verdict:
        """By log-likelihood."""
        if "log_likelihood" not in output or not isinstance(tokens := output.get("tokens"), int):
            raise ValueError("can't be compared: the model's answer has no fields 'log_likelihood' and 'tokens'")
        quality.perplexity = quality.perplexity or Perplexity()
        quality.perplexity.add(output["log_likelihood"], tokens)
        quality.answered += 1
        if output["log_likelihood"] is None or not tokens:
            return Verdict(0.0, 0.0, "", "", 0.0, right=True)
        nats = -output["log_likelihood"] / tokens
        return Verdict(nats, nats, "", f"{nats:.3f} nats a token", float(tokens))


def judged_number(quality: Quality, truth: float, predicted: float, key: bytes) -> Verdict:
    """Count a number; `key` names its row."""
    quality.regression = quality.regression or Regression(EXACT_UP_TO)
    quality.regression.add(truth, predicted, key)
    quality.answered += 1
    error = abs(predicted - truth)
    return Verdict(error, error, f"{truth:g}", f"{predicted:g}")


def number_of(label: Any) -> float | None:
    """A finite number, also from a string; else None."""
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        return None
    try:
        number = float(label)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
