"""Compares a number with the true one, and judges a language model by its texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streamer.core.health.judges.verdict import Verdict
from streamer.core.health.quality.evidence import Likelihood, Number


class NumberJudge:
    """similarity."""

    value_name = "mean absolute error"
    lower = True
    needs_label = True
    known: frozenset[str] = frozenset()

    def read(self, label: Any, text: str | None) -> float:
        """A number."""
        number = number_of(label)
        if number is None:
            raise ValueError("is not a finite number")
        return number

    def hold(self, truth: float, output: Mapping[str, Any]) -> tuple[Number, Verdict]:
        """Compare by distance and rank."""
        if not isinstance(score := output.get("score"), int | float):
            raise ValueError(
                "can't be compared: the model's answer has no field 'score'; give a text_pair, no candidates"
            )
        return held_number(truth, float(score))


class ScoringJudge:
    """scoring: the text itself is what the model is held to."""

    value_name = "nats a token"
    lower = True
    needs_label = False
    known: frozenset[str] = frozenset()

    def read(self, label: Any, text: str | None) -> None:
        """There is no label to read."""

    def hold(self, truth: None, output: Mapping[str, Any]) -> tuple[Likelihood, Verdict]:
        """Judge by log-likelihood."""
        if "log_likelihood" not in output or not isinstance(tokens := output.get("tokens"), int):
            raise ValueError("can't be compared: the model's answer has no fields 'log_likelihood' and 'tokens'")
        evidence = Likelihood(output["log_likelihood"], tokens)
        if evidence.log_likelihood is None or not tokens:
            return evidence, Verdict(0.0, 0.0, "", "", 0.0, right=True)
        nats = -evidence.log_likelihood / tokens
        return evidence, Verdict(nats, nats, "", f"{nats:.3f} nats a token", float(tokens))


def held_number(truth: float, predicted: float) -> tuple[Number, Verdict]:
    """A number beside the right one."""
    error = abs(predicted - truth)
    return Number(truth, predicted), Verdict(error, error, f"{truth:g}", f"{predicted:g}")


def number_of(label: Any) -> float | None:
    """A finite number, also from a string; else None."""
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        return None
    try:
        number = float(label)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
