"""Texts that are too long: cut, refused, or read in windows; and computations of more rows than a pass holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.model import Encoded
from streamer.inference.tasks.families import TASKS
from streamer.inference.worker.forwarder import Computation, Forwarder, WorkerFailureError
from tests.tiny_models import BERT, MODERNBERT, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, model_of, near, outcomes, outputs, reference

WORDS = " ".join(TEXTS)
LONG = [TEXTS[6], WORDS, " ".join(reversed(WORDS.split()))]
WINDOWED = {"text-classification", "token-classification", "embedding", "question-answering"}


def windows(tokenizer: Any, text: str, stride: int) -> Iterator[tuple[dict[str, Any], list[tuple[int, int]]]]:
    """What the network reads of each window, and the characters of its tokens; special ones have none."""
    found = tokenizer(
        text,
        truncation=True,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    for row, ids in enumerate(found["input_ids"]):
        inputs = {"input_ids": torch.tensor([ids])}
        offsets = zip(found["offset_mapping"][row], found["special_tokens_mask"][row], strict=True)
        yield inputs, [place for place, special in offsets if not special]


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, MODERNBERT])
def test_classes_of_windows_are_averaged(architecture: str, tmp_path: Path) -> None:
    """By their tokens; short texts beside them are what they are by themselves."""
    path = tiny(tmp_path, architecture, "ForSequenceClassification")
    network, tokenizer = reference(path, "ForSequenceClassification")
    model = model_of(path, "text-classification", on_overflow="window", top_k=3)
    events: list[Event] = [LONG[0], TEXTS[0], *LONG[1:]]
    found = outputs(model, events)
    (alone,) = outputs(model_of(path, "text-classification", top_k=3), [TEXTS[0]])
    assert found[1].keys() == alone.keys()
    assert found[1]["score"] == near(alone["score"])
    for text, output in zip(LONG, [found[0], *found[2:]], strict=True):
        with torch.inference_mode():
            rows = [(own, network(**own).logits[0].softmax(-1)) for own, _ in windows(tokenizer, text, 23)]
        expected = sum(own["input_ids"].numel() * scores for own, scores in rows)
        expected = (expected / sum(own["input_ids"].numel() for own, _ in rows)).numpy()
        assert output["windows"] == len(rows) > 1
        assert {one["label"]: one["score"] for one in output["scores"]} == {
            network.config.id2label[index]: near(score) for index, score in enumerate(expected.tolist())
        }


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, MODERNBERT])
def test_vectors_of_windows_are_averaged(architecture: str, tmp_path: Path) -> None:
    """By their tokens; of length 1 again where each is."""
    path = tiny(tmp_path, architecture, "")
    network, tokenizer = reference(path, "")
    found = outputs(model_of(path, "embedding", on_overflow="window", normalize=True), [*LONG])
    for text, output in zip(LONG, found, strict=True):
        total = torch.zeros(32)
        for own, _ in windows(tokenizer, text, 23):
            with torch.inference_mode():
                vector = network(**own).last_hidden_state[0].mean(0)
            total += own["input_ids"].numel() * vector / vector.norm()
        assert output["vector"] == near((total / total.norm()).numpy())
        assert output["windows"] > 1


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, MODERNBERT])
def test_entities_of_windows_are_each_found_once(architecture: str, tmp_path: Path) -> None:
    """A token counts where it has the most text around it: each once, in the order of the text."""
    path = tiny(tmp_path, architecture, "ForTokenClassification", labels=("PER", "LOC", "MISC"))
    network, tokenizer = reference(path, "ForTokenClassification")
    model = model_of(path, "token-classification", on_overflow="window", aggregation="none")
    for text, output in zip(LONG, outputs(model, [*LONG]), strict=True):
        rows = list(windows(tokenizer, text, 23))
        expected: list[tuple[str, int, int, float]] = []
        for number, (own, places) in enumerate(rows):
            with torch.inference_mode():
                scores = network(**own).logits[0].softmax(-1)[1:-1]
            first = 11 if number else 0  # of the 23 tokens that two windows share, the second skips 11, the first 12
            last = len(places) - (12 if number < len(rows) - 1 else 0)
            for score, (start, end) in list(zip(scores, places, strict=True))[first:last]:
                if start < end:  # a token of a space alone is no entity
                    expected.append((network.config.id2label[int(score.argmax())], start, end, float(score.max())))
        ours = output["entities"]
        assert [(one["label"], one["start"], one["end"]) for one in ours] == [one[:3] for one in expected]
        assert [one["score"] for one in ours] == near([one[3] for one in expected])
        everything = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        assert [(one["start"], one["end"]) for one in ours] == [
            (start, end) for start, end in everything if start < end
        ]
        assert output["windows"] == len(rows)


def test_one_text_of_a_pair_is_read_in_windows(tmp_path: Path) -> None:
    """The first, with the whole second in each; a second that leaves no room is refused."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification")
    model = model_of(path, "text-classification", on_overflow="window")
    pair, full = outcomes(model, [(LONG[0], TEXTS[0]), (LONG[0], LONG[0])])
    assert isinstance(pair, dict)
    assert pair["windows"] > 1
    assert isinstance(full, DataFailure)
    assert full.code is Code.INFER_TOO_LONG


@pytest.mark.parametrize("task", ["token-classification", "similarity", "rerank"])
def test_too_long_a_text_is_refused_on_request(task: str, tmp_path: Path) -> None:
    """Also where only one of its rows is too long."""
    head, labels = {
        "token-classification": ("ForTokenClassification", ("O", "PER")),
        "similarity": ("", ("a",)),
        "rerank": ("ForSequenceClassification", ("a",)),
    }[task]
    model = model_of(tiny(tmp_path, BERT, head, labels=labels), task, on_overflow="reject")
    params = {} if task == "token-classification" else {"candidates": ["a", LONG[0]]}
    long, short = outcomes(model, [(TEXTS[0] if params else LONG[0], None, params), (TEXTS[0], None, _short(params))])
    assert isinstance(long, DataFailure)
    assert long.code is Code.INFER_TOO_LONG
    assert isinstance(short, dict)


def _short(params: dict[str, Any]) -> dict[str, Any]:
    return {name: ["a"] for name in params}


@pytest.mark.parametrize("task", sorted(set(TASKS) - WINDOWED))
def test_other_tasks_refuse_windows_at_load(task: str, tmp_path: Path) -> None:
    """Before anything is read of the model."""
    with pytest.raises(ModelError, match="window"):
        model_of(tmp_path, task, on_overflow="window")


def test_more_rows_than_a_pass_holds(tmp_path: Path) -> None:
    """They run in several, and answer as in one."""
    path = tiny(tmp_path, BERT, "")
    candidates = [f"{text} {number}" for number in range(8) for text in TEXTS]
    event: Event = ("the film", None, {"candidates": candidates})
    (whole,) = outputs(model_of(path, "similarity"), [event], batch_tokens=100_000)
    (parts,) = outputs(model_of(path, "similarity"), [event, "a"][:1], batch_tokens=100)
    assert parts["scores"] == near(whole["scores"])
    assert len(np.unique(np.round(whole["scores"], 4))) > 50


def test_too_little_memory_for_one_computation_of_many_rows(tmp_path: Path) -> None:
    """It runs in ever smaller passes, down to one row; only then is the device at fault."""
    # Weights of its own: the lower budget is remembered by their digest.
    model: Any = model_of(tiny(tmp_path, BERT, "", seed=7), "similarity")
    (encoded,) = model.encode(["the film"], None, [{"candidates": TEXTS}])
    assert isinstance(encoded, Encoded)
    passing, largest = model._pass, [0]

    def with_room_for(tokens: int) -> None:
        def limited(taken: Any) -> Any:
            padded = len(taken) * max(len(row.ids) for row in taken)
            if padded > tokens:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            largest[0] = max(largest[0], padded)
            return passing(taken)

        model._pass = limited

    done: list[Any] = []
    with_room_for(100)
    Forwarder(model, done.append).run([Computation(0, encoded)])
    assert (done[-1].numbers, done[-1].failures) == ([0], {})
    assert 48 <= largest[0] <= 100
    with_room_for(40)
    with pytest.raises(WorkerFailureError, match="out of memory"):
        Forwarder(model, done.append).run([Computation(0, encoded)])
