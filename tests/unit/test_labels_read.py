"""What a label of a file may be, and what is said of answers that have nothing to compare it with."""

from __future__ import annotations

import math
from typing import Any

import pytest

from streamer.core.health.judges.by_task import TASKS, judge_of
from streamer.core.health.judges.labels import LabelJudge
from streamer.core.health.quality.evidence import One


@pytest.mark.parametrize(
    ("label", "read"),
    [
        ("a", "a"),
        ("5", "good"),
        (5.0, "good"),
        (True, "true"),
        (False, "false"),
        (0.5, 0.5),
        (["b", 5, "b"], ["b", "good"]),
        (' ["b", "a"]', ["a", "b"]),
    ],
)
def test_a_classifiers_label(label: object, read: object) -> None:
    """A name, under its other name where it has one; a number that is no name; a list of names."""
    assert LabelJudge({"5": "good"}, 0.5).read(label, "text") == read


@pytest.mark.parametrize(("label", "why"), [(math.nan, "finite"), (math.inf, "finite"), ({}, "name"), ([[]], "name")])
def test_what_is_no_label_is_refused(label: object, why: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=why):
        LabelJudge({}, 0.5).read(label, "text")


def test_a_text_is_compared_with_something() -> None:
    """No list of references is empty."""
    judge = judge_of("summarization", {}, 0.5)
    assert judge is not None
    with pytest.raises(ValueError, match="at least one reference"):
        judge.read([], "text")


LABELS: dict[str, Any] = {"token-classification": [], "similarity": 0.5, "text-classification": "a"}


@pytest.mark.parametrize("task", TASKS)
def test_an_answer_without_the_fields_is_not_compared(task: str) -> None:
    """It is said which field is missing."""
    judge = judge_of(task, {}, 0.5)
    assert judge is not None
    with pytest.raises(ValueError, match="can't be compared: the model's answer has no field"):
        judge.hold(judge.read(LABELS.get(task, "a"), "text"), {})


def test_the_best_of_the_scores_is_the_answer_where_none_is_named() -> None:
    """Of zero-shot classification's labels, which come with scores."""
    evidence, _ = LabelJudge({}, 0.5).hold("b", {"labels": ["a", "b"], "scores": [0.2, 0.8]})
    assert evidence == One("b", "b", 0.8)
