"""Tasks that point into a text, against plain transformers: question-answering and fill-mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from streamer.errors import Code, DataFailure, ModelError
from tests.tiny_models import BERT, DEBERTA, DISTILBERT, ELECTRA, MODERNBERT, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, model_of, near, outcomes, outputs, reference

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

QUESTION = "who met in Paris?"
ENDS = ("start", "end")


def best_spans(
    path: Path, text: str, longest: int, stride: int | None = None
) -> tuple[dict[tuple[int, int], float], float]:
    """Every answer's probability by its characters, best of all windows, and that of no answer; window by window."""
    network, tokenizer = reference(path, "ForQuestionAnswering")
    windows = {"stride": stride, "return_overflowing_tokens": True} if stride is not None else {}
    inputs = tokenizer(
        [QUESTION],
        [text],
        truncation="only_second",
        return_tensors="pt",
        return_offsets_mapping=True,
        padding=True,
        **windows,
    )
    offsets = inputs.pop("offset_mapping").tolist()
    inputs.pop("overflow_to_sample_mapping", None)
    spans: dict[tuple[int, int], float] = {}
    nothing = 1.0
    for row in range(len(offsets)):
        sides = inputs.sequence_ids(row)
        length = int(inputs["attention_mask"][row].sum())
        with torch.inference_mode():
            output = network(**{name: value[row : row + 1, :length] for name, value in inputs.items()})
        allowed = [place for place in range(length) if sides[place] == 1]
        among = [0, *allowed]  # the first token stands for no answer
        starts = dict(zip(among, output.start_logits[0, among].softmax(0).tolist(), strict=True))
        ends = dict(zip(among, output.end_logits[0, among].softmax(0).tolist(), strict=True))
        nothing = min(nothing, starts[0] * ends[0])
        for first in allowed:
            for last in allowed:
                if first <= last < first + longest:
                    place = (offsets[row][first][0], offsets[row][last][1])
                    spans[place] = max(spans.get(place, 0.0), starts[first] * ends[last])
    return spans, nothing


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DISTILBERT, ELECTRA, DEBERTA])
def test_answers_are_the_likeliest_spans(architecture: str, tmp_path: Path) -> None:
    """Answer, characters and score of the best span, of each text by itself."""
    path = tiny(tmp_path, architecture, "ForQuestionAnswering", labels=("a", "b"))
    model = model_of(path, "question-answering", max_answer_tokens=6)
    events: list[Event] = [(text, None, {"question": QUESTION}) for text in TEXTS]
    for text, output in zip(TEXTS, outputs(model, events), strict=True):
        spans, _ = best_spans(path, text, 6)
        if not text.strip() and not spans:
            assert output == {"answer": "", "score": 0.0, "start": 0, "end": 0}
            continue
        (start, end), score = max(spans.items(), key=lambda item: item[1])
        blank = len(text[start:end]) - len(text[start:end].lstrip())
        assert output["score"] == near(score)
        assert (output["answer"], output["start"]) == (text[start:end].strip(), start + blank)
        assert text[output["start"] : output["end"]] == output["answer"]


def test_more_answers_and_none(tmp_path: Path) -> None:
    """`top_k` ranks spans, and `no_answer` lets the first token speak for none, as an empty answer."""
    path = tiny(tmp_path, BERT, "ForQuestionAnswering", labels=("a", "b"))
    events: list[Event] = [(text, None, {"question": QUESTION}) for text in TEXTS if text.strip()]
    model = model_of(path, "question-answering", top_k=4, no_answer=True, max_answer_tokens=3)
    empty = 0
    for event, output in zip(events, outputs(model, events), strict=True):
        spans, nothing = best_spans(path, event[0], 3)
        spans[0, 0] = nothing
        best = sorted(spans.items(), key=lambda item: -item[1])[:4]
        assert [one["score"] for one in output["answers"]] == near([score for _, score in best])
        assert [one["answer"] for one in output["answers"]] == [event[0][start:end].strip() for (start, end), _ in best]
        assert {name: output[name] for name in output if name != "answers"} == output["answers"][0]
        empty += "" in [one["answer"] for one in output["answers"]]
    assert empty


@pytest.mark.parametrize("architecture", [BERT, ROBERTA])
def test_long_texts_are_answered_by_windows(architecture: str, tmp_path: Path) -> None:
    """The best span of all windows, wherever it stands; the result says how many there were."""
    path = tiny(tmp_path, architecture, "ForQuestionAnswering", labels=("a", "b"))
    _, tokenizer = reference(path, "ForQuestionAnswering")
    room = 48 - len(tokenizer([QUESTION], [""])["input_ids"][0])
    model = model_of(path, "question-answering", on_overflow="window", max_answer_tokens=6)
    ends: list[int] = []
    for text in [*TEXTS, " ".join(TEXTS), " ".join(reversed(TEXTS))]:
        if not text.strip():
            continue
        (output,) = outputs(model, [(text, None, {"question": QUESTION})])
        spans, _ = best_spans(path, text, 6, stride=room // 2)
        (start, end), score = max(spans.items(), key=lambda item: item[1])
        assert output["score"] == near(score)
        assert output["answer"] == text[start:end].strip()
        ends.append(output.get("windows", 1))
    assert (min(ends), max(ends) > 3) == (1, True)


def test_a_question_that_fills_the_windows_is_refused(tmp_path: Path) -> None:
    """Where it leaves the text too little room; its neighbours are answered."""
    path = tiny(tmp_path, BERT, "ForQuestionAnswering", labels=("a", "b"))
    model = model_of(path, "question-answering", on_overflow="window")
    events: list[Event] = [(TEXTS[6], None, {"question": "who " * 30}), (TEXTS[0], None, {"question": QUESTION})]
    failure, output = outcomes(model, events)
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.INFER_TOO_LONG
    assert isinstance(output, dict)


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DISTILBERT, MODERNBERT])
def test_candidates_are_those_of_the_pipeline(architecture: str, tmp_path: Path) -> None:
    """Tokens, their numbers and scores for each mask, with more or fewer masks and candidates in the same batch."""
    path = tiny(tmp_path, architecture, "ForMaskedLM")
    network, tokenizer = reference(path, "ForMaskedLM")
    theirs = pipeline("fill-mask", network, tokenizer=tokenizer)
    mask = tokenizer.mask_token
    texts = [f"{mask} {text}" for text in TEXTS[:6]] + [f"{mask} the {mask}{mask} 東京", mask]
    top_k = [number % 4 + 1 for number in range(len(texts))]
    events: list[Event] = [(text, None, {"top_k": k}) for text, k in zip(texts, top_k, strict=True)]
    model = model_of(path, "fill-mask")
    for text, k, output in zip(texts, top_k, outputs(model, events), strict=True):
        expected: Any = theirs(text, top_k=k)
        for ours, own in zip(
            output["candidates"], expected if isinstance(expected[0], list) else [expected], strict=True
        ):
            assert [one["token_id"] for one in ours] == [one["token"] for one in own]
            assert [one["token"] for one in ours] == [one["token_str"] for one in own]
            assert [one["score"] for one in ours] == near([one["score"] for one in own])
    assert [len(one) for one in outputs(model, [texts[-2]])[0]["candidates"]] == [5, 5, 5]


def test_the_head_sees_masks_only(tmp_path: Path) -> None:
    """The logits of a whole vocabulary are made for the masks, not for every token."""
    model: Any = model_of(tiny(tmp_path, BERT, "ForMaskedLM"), "fill-mask")
    seen: list[tuple[int, ...]] = []
    hook = model.network.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: seen.append(tuple(logits.shape))
    )
    outputs(model, ["the [MASK] was good", "a film"[:1] + " [MASK] [MASK]"])
    hook.remove()
    assert np.array(seen)[:, 1].max() == 2


def test_a_text_without_mask_is_refused(tmp_path: Path) -> None:
    """Also one whose mask lies beyond what the model reads."""
    model = model_of(tiny(tmp_path, BERT, "ForMaskedLM"), "fill-mask")
    without, beyond, fine = outcomes(model, ["the film", TEXTS[6] + "[MASK]", "[MASK]"])
    assert isinstance(without, DataFailure)
    assert (without.code, "[MASK]" in without.message) == (Code.VALIDATE_TEXT, True)
    assert isinstance(beyond, DataFailure)
    assert beyond.code is Code.INFER_TOO_LONG
    assert isinstance(fine, dict)


def test_a_tokenizer_without_mask_is_refused(tmp_path: Path) -> None:
    """At load."""
    path = tiny(tmp_path, BERT, "ForMaskedLM")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (path / name).is_file():
            (path / name).write_text((path / name).read_text().replace('"mask_token"', '"no_mask"'))
    with pytest.raises(ModelError, match="mask"):
        model_of(path, "fill-mask")
