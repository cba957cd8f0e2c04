"""Holds a classifier's answer to its label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streamer.core.health.calibration import Calibration
from streamer.core.health.confusion import Confusion
from streamer.core.health.multilabel import MultiLabel
from streamer.core.health.number_judge import judged_number, number_of
from streamer.core.health.quality import Quality
from streamer.core.health.verdict import Verdict, list_of


class LabelJudge:
    """text-classification and zero-shot-classification. The first label says which kind of answer is judged: a list is
    for a model that gives any number of labels, a number one that gives a number, where it has no second label to
    score. `names` are other names for labels of the file."""

    value_name = "accuracy"
    lower = False
    needs_label = True

    def __init__(self, names: Mapping[str, str], threshold: float) -> None:
        self._names = names
        self._threshold = threshold
        self._known: set[str] = set()

    def read(self, label: Any, text: str) -> str | float | list[str]:
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

    def add(self, quality: Quality, truth: Any, output: Mapping[str, Any], key: bytes) -> Verdict:
        """One label, several, or a number."""
        scores = _scores(output)
        if isinstance(truth, list):
            _only(quality, "multilabel", "is a list, and those before it are not")
            return self._several(quality, truth, scores)
        number = number_of(truth)
        if number is not None and len(scores) == 1 and "scores" not in output and str(truth) not in scores:
            _only(quality, "regression", "is a number, and those before it are not")
            self.value_name, self.lower = "mean absolute error", True
            return judged_number(quality, number, next(iter(scores.values())), key)
        _only(quality, "confusion", "is one name, and those before it are not")
        return self._one(quality, str(truth), output, scores)

    def _one(self, quality: Quality, truth: str, output: Mapping[str, Any], scores: dict[str, float]) -> Verdict:
        quality.confusion = quality.confusion or Confusion()
        quality.calibration = quality.calibration or Calibration()
        predicted = max(scores, key=scores.__getitem__) if "label" not in output else str(output["label"])
        if "scores" in output:  # else it names the best one alone
            self._learn(quality, scores)
        right, score = predicted == truth, scores.get(predicted, 0.0)
        quality.confusion.add(truth, predicted)
        quality.calibration.add(score, right)
        quality.answered += 1
        return Verdict(float(right), -1.0 if right else score, truth, predicted, 1.0, (truth, predicted), right)

    def _several(self, quality: Quality, truth: list[str], scores: dict[str, float]) -> Verdict:
        quality.multilabel = quality.multilabel or MultiLabel()
        quality.calibration = quality.calibration or Calibration()
        self.value_name = "all labels right"
        self._learn(quality, scores)
        predicted = sorted(label for label, score in scores.items() if score >= self._threshold)
        quality.multilabel.add(truth, predicted, scores)
        for label, score in scores.items():
            quality.calibration.add(score, label in truth)
        quality.answered += 1
        right = predicted == truth
        true, found = set(truth), set(predicted)
        sure = (scores.get(label, 0.0) if label in found else 1 - scores.get(label, 0.0) for label in true ^ found)
        worst = max(sure, default=-1.0)
        cell = len(true & found), len(found - true), len(true - found)
        return Verdict(float(right), worst, ", ".join(truth), ", ".join(predicted), 1.0, cell, right)

    def _learn(self, quality: Quality, scores: Mapping[str, float]) -> None:
        if not self._known >= scores.keys():
            self._known |= scores.keys()
            quality.labels = sorted(self._known)


def _only(quality: Quality, part: str, words: str) -> None:
    if any(getattr(quality, other) is not None for other in {"confusion", "multilabel", "regression"} - {part}):
        raise ValueError(words)


def _scores(output: Mapping[str, Any]) -> dict[str, float]:
    """Of each label that an answer names."""
    if isinstance(output.get("labels"), list):  # zero-shot-classification
        return dict(zip(map(str, output["labels"]), output["scores"], strict=True))
    if isinstance(output.get("scores"), list):
        return {str(each["label"]): float(each["score"]) for each in output["scores"]}
    if "label" not in output:
        raise ValueError("can't be compared: the model's answer has no field 'label'")
    score = output.get("score")
    return {str(output["label"]): float(score) if isinstance(score, int | float) else -1.0}
