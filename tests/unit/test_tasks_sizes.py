"""Events that ask for more than memory holds, of every task whose params or options multiply."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import Code, DataFailure
from streamer.inference.channel import Compute
from streamer.inference.model import Encoded
from streamer.inference.worker import sizes
from streamer.inference.worker.encoding import encode_work
from streamer.inference.worker.sizes import MAX_CHARACTERS, MAX_ROWS
from tests.tiny_models import BERT, tiny
from tests.unit.tasks_kit import Event, counted_passes, model_of, near, outcomes, outputs

NLI_LABELS = ("contradiction", "neutral", "entailment")
HEAD = "ForSequenceClassification"
MOST_BYTES = 100_000_000
MANY = ["l"] * (MAX_ROWS + 1)


def encoded(model: Any, text: str, pair: str | None = None, params: dict[str, Any] | None = None) -> Any:
    """One event encoded, within bounds of Python's memory."""
    tracemalloc.start()
    try:
        (found,) = encode_work(model, Compute([1], [text], [pair], [params]), 0)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    return found


def refused(found: Any, limit: int) -> bool:
    """With the limit in words."""
    assert isinstance(found, DataFailure)
    assert found.code is Code.VALIDATE_TOO_LARGE
    return f"{limit:,}" in found.message


@pytest.mark.case(69)
@pytest.mark.parametrize("method", ["inference", "embedding"])
def test_a_template_is_not_written_out_with_each_label(method: str, tmp_path: Path) -> None:
    """A valid event of 450 kB would be 8 GB."""
    model = model_of(tiny(tmp_path, BERT, HEAD, labels=NLI_LABELS), "zero-shot-classification", method=method)
    template = "x " * 200_000 + "{}"
    labels = [f"l{number % 7}" for number in range(10_000)]
    ask = {"candidate_labels": labels, "hypothesis_template": template}
    assert refused(encoded(model, "a", params=ask), MAX_CHARACTERS)
    assert refused(encoded(model, "a", params={"candidate_labels": MANY}), MAX_ROWS)
    assert isinstance(encoded(model, "a" * 1_000_000, params={"candidate_labels": ["a", "b"]}), Encoded)


@pytest.mark.case(69)
@pytest.mark.parametrize(("task", "head", "labels"), [("rerank", HEAD, ("one",)), ("similarity", "", ())])
def test_candidates_are_bounded(task: str, head: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    """In number; and what is read of them, not what is cut off."""
    given: dict[str, Any] = {"labels": labels} if labels else {}
    model = model_of(tiny(tmp_path, BERT, head, **given), task)
    assert refused(encoded(model, "a", params={"candidates": MANY}), MAX_ROWS)
    assert isinstance(encoded(model, "word " * 50_000, params={"candidates": ["b"] * 100}), Encoded)


@pytest.mark.case(69)
def test_windows_are_bounded(tmp_path: Path) -> None:
    """A text that has too many fails by their tokens, one that has many is read."""
    model = model_of(tiny(tmp_path, BERT, ""), "embedding", on_overflow="window")
    assert refused(encoded(model, "a " * 700_000), MAX_ROWS)
    assert refused(encoded(model, "a" * (MAX_CHARACTERS + 1)), MAX_CHARACTERS)
    assert isinstance(encoded(model, "a " * 10_000), Encoded)


@pytest.mark.case(69)
def test_masks_share_no_more_scores_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with many would make room for as many in each row beside it. The answers are the same."""
    model = model_of(tiny(tmp_path, BERT, "ForMaskedLM"), "fill-mask", top_k=3)
    events: list[Event] = ["a [MASK]", "[MASK] " * 20, "it was [MASK] and [MASK]", "[MASK] film", "the [MASK] " * 5]
    before = outputs(model, events)
    monkeypatch.setattr(sizes, "MAX_SCORES", 20 * model.tokenizer.size)  # type: ignore[attr-defined]
    passes = counted_passes(model)
    after = outputs(model, events)
    assert len(passes) > 1
    for one, other in zip(before, after, strict=True):
        found = [[(own["token_id"], near(own["score"])) for own in mask] for mask in one["candidates"]]
        assert [[(own["token_id"], own["score"]) for own in mask] for mask in other["candidates"]] == found
    monkeypatch.setattr(sizes, "MAX_SCORES", 19 * model.tokenizer.size)  # type: ignore[attr-defined]
    assert [isinstance(one, DataFailure) for one in outcomes(model, events)] == [False, True, False, False, False]
