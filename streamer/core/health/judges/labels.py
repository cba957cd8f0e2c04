"""Holds a classifier's answer to its label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streamer.core.health.judges.numbers import held_number, number_of
from streamer.core.health.judges.verdict import Verdict, list_of
from streamer.core.health.quality.evidence import Evidence, Number, One, Several


class LabelJudge:
    """text-classification and zero-shot-classification. A label says which kind of answer is judged: a list is for a
    model that gives any number of labels, a number one that gives a number, where it has no second label to score.
    `names` are other names for labels of the file."""

    value_name = "accuracy"
    lower = False
    needs_label = True

    def __init__(self, names: Mapping[str, str], threshold: float) -> None:
        self._names = names
        self._threshold = threshold
        self.known: set[str] = set()

    def read(self, label: Any, text: str | None) -> str | float | list[str]:
        """A name, a number, or a list of names; also as JSON in a string."""
        if isinstance(label, str) and label.lstrip().startswith("["):
            label = list_of(label)
        if isinstance(label, list):
            return sorted({self._name(each) for each in label})
        if isinstance(label, float) and not label.is_integer():
            if not math.isfinite(label):
                raise ValueError("is not a finite number")
            return label
        return self._name(label)

    def _name(self, label: Any) -> str:
        if isinstance(label, bool):
            label = "true" if label else "false"
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if not isinstance(label, str | int):
            raise ValueError("is neither a name nor a list of names")
        return self._names.get(str(label), str(label))

    def hold(self, truth: Any, output: Mapping[str, Any]) -> tuple[Evidence, Verdict]:
        """One label, several, or a number."""
        if isinstance(truth, list):
            return self.several(truth, output)
        if number_of(truth) is not None and _gives_a_number(output) and str(truth) not in _scores(output):
            return self.number(truth, output)
        return self.one(str(truth), output)

    def one(self, truth: str, output: Mapping[str, Any]) -> tuple[One, Verdict]:
        """The one label that is right."""
        scores = _scores(output)
        predicted = max(scores, key=scores.__getitem__) if "label" not in output else str(output["label"])
        if "scores" in output:  # else it names the best one alone
            self._learn(scores)
        right, score = predicted == truth, scores.get(predicted, 0.0)
        cell, badness = (truth, predicted), -1.0 if right else score
        return One(truth, predicted, score), Verdict(float(right), badness, truth, predicted, 1.0, cell, right)

    def number(self, truth: Any, output: Mapping[str, Any]) -> tuple[Number, Verdict]:
        """The right number."""
        number = number_of(truth)
        if number is None or not _gives_a_number(output):
            raise ValueError("is a number, and the model gives labels")
        self.value_name, self.lower = "mean absolute error", True
        return held_number(number, next(iter(_scores(output).values())))

    def several(self, truth: list[str], output: Mapping[str, Any]) -> tuple[Several, Verdict]:
        """All labels that are right, by name."""
        scores = _scores(output)
        self.value_name = "all labels right"
        self._learn(scores)
        predicted = sorted(label for label, score in scores.items() if score >= self._threshold)
        right = predicted == truth
        true, found = set(truth), set(predicted)
        sure = (scores.get(label, 0.0) if label in found else 1 - scores.get(label, 0.0) for label in true ^ found)
        worst = max(sure, default=-1.0)
        cell = len(true & found), len(found - true), len(true - found)
        verdict = Verdict(float(right), worst, ", ".join(truth), ", ".join(predicted), 1.0, cell, right)
        return Several(truth, predicted, scores), verdict

    def _learn(self, scores: Mapping[str, float]) -> None:
        if not self.known >= scores.keys():
            self.known |= scores.keys()


def _gives_a_number(output: Mapping[str, Any]) -> bool:
    return "scores" not in output and len(_scores(output)) == 1


def _scores(output: Mapping[str, Any]) -> dict[str, float]:
    """The score of each label that an answer names."""
    if isinstance(output.get("labels"), list):  # zero-shot-classification
        return dict(zip(map(str, output["labels"]), output["scores"], strict=True))
    if isinstance(output.get("scores"), list):
        return {str(each["label"]): float(each["score"]) for each in output["scores"]}
    if "label" not in output:
        raise ValueError("can't be compared: the model's answer has no field 'label'")
    score = output.get("score")
    return {str(output["label"]): float(score) if isinstance(score, int | float) else -1.0}
