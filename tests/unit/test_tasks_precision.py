"""Lower precision: numbers stay within what the model's card declares, and labels do where that decides them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import BERT, DISTILBERT, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, model_of, near, outputs

Scores = dict[Any, float]
CLASSES, PAIR = "ForSequenceClassification", {"candidates": TEXTS[:3]}


def classes(output: dict[str, Any]) -> list[Scores]:
    return [{one["label"]: one["score"] for one in output["scores"]}]


def tokens(output: dict[str, Any]) -> list[Scores]:
    """Of entities that are tokens: each one's best label."""
    return [{(one["label"], one["start"]): one["score"]} for one in output["entities"]]


def labels(output: dict[str, Any]) -> list[Scores]:
    return [dict(zip(output["labels"], output["scores"], strict=True))]


def candidates(output: dict[str, Any]) -> list[Scores]:
    return [dict(enumerate(output["scores"]))]


def spans(output: dict[str, Any]) -> list[Scores]:
    return [{(one["start"], one["end"]): one["score"] for one in output["answers"]}]


def masks(output: dict[str, Any]) -> list[Scores]:
    return [{one["token_id"]: one["score"] for one in mask} for mask in output["candidates"]]


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DISTILBERT])
@pytest.mark.parametrize(
    ("task", "head", "names", "options", "params", "read"),
    [
        ("text-classification", CLASSES, ("a", "b", "c"), {"top_k": 3}, {}, classes),
        (
            "token-classification",
            "ForTokenClassification",
            ("O", "A"),
            {"aggregation": "none", "ignore": []},
            {},
            tokens,
        ),
        ("zero-shot-classification", CLASSES, ("no", "entailment"), {}, {"candidate_labels": TEXTS[:3]}, labels),
        ("similarity", "", ("a",), {}, PAIR, candidates),
        ("rerank", CLASSES, ("a",), {}, PAIR, candidates),
        ("question-answering", "ForQuestionAnswering", ("a", "b"), {"top_k": 900}, {"question": "who?"}, spans),
        ("fill-mask", "ForMaskedLM", ("a",), {"top_k": 400}, {}, masks),
    ],
)
def test_bfloat16_keeps_to_its_tolerance(
    task: str,
    head: str,
    names: tuple[str, ...],
    options: dict[str, Any],
    params: dict[str, Any],
    read: Any,
    architecture: str,
    tmp_path: Path,
) -> None:
    """Every score lies as near to fp32's as the card says, and the best is the same where it leads by more."""
    path = tiny(tmp_path, architecture, head, labels=names, spread=0.12)
    full = model_of(path, task, **options)
    low = model_of(path, task, dtype="bfloat16", **options)
    assert (full.card.dtype, low.card.dtype) == ("float32", "bfloat16")
    mask = "[MASK]" if architecture != ROBERTA else "<mask>"
    events: list[Event] = [(f"{mask} {text}" if task == "fill-mask" else text, None, params) for text in TEXTS]
    differing = compared = 0
    for expected, output in zip(outputs(full, events), outputs(low, events), strict=True):
        for theirs, ours in zip(read(expected), read(output), strict=True):
            both = theirs.keys() & ours.keys()
            assert {one: ours[one] for one in both} == {one: near(theirs[one], low.card.tolerance) for one in both}
            ranked = sorted(theirs.values(), reverse=True)
            if len(ranked) > 1 and ranked[0] - ranked[1] > 2 * low.card.tolerance:
                assert max(ours, key=ours.__getitem__) == max(theirs, key=theirs.__getitem__)
            differing += ours != theirs
            compared += len(both)
    assert compared >= len(TEXTS) - 1
    assert differing
