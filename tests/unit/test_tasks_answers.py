"""question-answering against plain transformers, whose pipeline of that name ended with version 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from streamer.errors import Code, DataFailure, ModelError
from tests.tiny_models import BERT, DEBERTA, DISTILBERT, ELECTRA, ROBERTA, XLM_ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, model_of, near, outcomes, outputs, reference

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

QUESTION = "who met in Paris?"
TWICE = "Paris paris PARIS, the film in Paris 東京 東京 🙂"
"""Answers that differ in their place alone."""


def words_by_token(tokenizer: Any, text: str) -> dict[int, tuple[int, int]]:
    """By the number of a word its characters, of the whole text."""
    found = tokenizer([text], return_offsets_mapping=True, add_special_tokens=False)
    words: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(found.word_ids(0), found["offset_mapping"][0], strict=True):
        first, last = words.get(word, (start, end))
        words[word] = (min(first, start), max(last, end))
    return words


def best_answers(
    path: Path, text: str, longest: int, *, stride: int | None = None, question: str = QUESTION
) -> tuple[list[tuple[float, int, int]], float]:
    """Every answer with its score, best first, and the score of none. Every span of tokens is made one of words, and of
    answers of the same letters the best counts; window by window."""
    network, tokenizer = reference(path, "ForQuestionAnswering")
    first_side = 1 if tokenizer.padding_side == "right" else 0
    windows = {"stride": stride, "return_overflowing_tokens": True} if stride is not None else {}
    inputs = tokenizer(
        [(question, text) if first_side else (text, question)],
        truncation="only_second" if first_side else "only_first",
        return_tensors="pt",
        padding=True,
        **windows,
    )
    inputs.pop("overflow_to_sample_mapping", None)
    words = words_by_token(tokenizer, text)
    answers: dict[str, tuple[float, int, int]] = {}
    nothing = 1.0
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        sides, own = inputs.sequence_ids(row), inputs.word_ids(row)
        places = mask.nonzero()[:, 0].tolist()
        with torch.inference_mode():
            output = network(**{name: value[row : row + 1, mask] for name, value in inputs.items()})
        shift = places[0]
        allowed = [place for place in places if sides[place] == first_side]
        cls = [
            place
            for place in places
            if sides[place] is None and int(inputs["input_ids"][row, place]) == tokenizer.cls_token_id
        ]
        among = [place - shift for place in (*cls, *allowed)]
        starts = dict(zip((*cls, *allowed), output.start_logits[0, among].softmax(0).tolist(), strict=True))
        ends = dict(zip((*cls, *allowed), output.end_logits[0, among].softmax(0).tolist(), strict=True))
        nothing = min(nothing, starts[cls[0]] * ends[cls[0]])
        for first in allowed:
            for last in allowed:
                if first <= last < first + longest:
                    start, end = words[own[first]][0], words[own[last]][1]
                    answer = text[start:end].strip()
                    start += len(text[start:end]) - len(text[start:end].lstrip())
                    found = (starts[first] * ends[last], start, start + len(answer))
                    if answer:
                        answers[answer.lower()] = max(found, answers.get(answer.lower(), found), key=lambda one: one[0])
    return sorted(answers.values(), key=lambda one: -one[0]), nothing


def edit(path: Path, name: str, **fields: Any) -> None:
    """Set fields of one of the model's files."""
    content = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(content | fields))


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DISTILBERT, ELECTRA, DEBERTA, XLM_ROBERTA])
def test_answers_are_the_likeliest_words(architecture: str, padding_side: str, tmp_path: Path) -> None:
    """Answers, characters and scores, of each text by itself, and no two alike. A tokenizer that pads on the left reads
    the text before the question."""
    path = tiny(tmp_path, architecture, "ForQuestionAnswering", labels=("a", "b"))
    edit(path, "tokenizer_config.json", padding_side=padding_side)
    model = model_of(path, "question-answering", max_answer_tokens=6, top_k=5)
    texts = [text for text in (*TEXTS, TWICE) if text.strip()]
    events: list[Event] = [(text, None, {"question": QUESTION}) for text in texts]
    # BERT's positions count from the left: no two lengths may share a pass there.
    batches = [events] if padding_side == "right" else [[event] for event in events]
    found_of = [output for batch in batches for output in outputs(model, batch)]
    wide = 0
    for text, output in zip(texts, found_of, strict=True):
        expected = best_answers(path, text, 6)[0][:5]
        found = output["answers"]
        assert [(one["start"], one["end"]) for one in found] == [(start, end) for _, start, end in expected]
        assert [one["score"] for one in found] == near([score for score, *_ in expected])
        assert [one["answer"] for one in found] == [text[start:end] for _, start, end in expected]
        assert {name: output[name] for name in output if name != "answers"} == found[0]
        assert len({one["answer"].lower() for one in found}) == len(found)
        wide += sum(" " in one["answer"] for one in found)
    assert wide


def test_more_answers_and_none(tmp_path: Path) -> None:
    """`top_k` ranks answers, and `no_answer` lets the first token speak for none, as an empty answer."""
    path = tiny(tmp_path, BERT, "ForQuestionAnswering", labels=("a", "b"))
    events: list[Event] = [(text, None, {"question": QUESTION}) for text in TEXTS if text.strip()]
    model = model_of(path, "question-answering", top_k=4, no_answer=True, max_answer_tokens=3)
    empty = 0
    for event, output in zip(events, outputs(model, events), strict=True):
        answers, nothing = best_answers(path, event[0], 3)
        best = sorted([*answers, (nothing, 0, 0)], key=lambda one: -one[0])[:4]
        assert [one["score"] for one in output["answers"]] == near([score for score, *_ in best])
        assert [one["answer"] for one in output["answers"]] == [event[0][start:end] for _, start, end in best]
        empty += "" in [one["answer"] for one in output["answers"]]
    assert empty


def test_all_answers_of_a_short_text(tmp_path: Path) -> None:
    """As many as there are, however many spans of tokens come to the same words."""
    path = tiny(tmp_path, ROBERTA, "ForQuestionAnswering", labels=("a", "b"))
    text = "Zürich " * 4
    (output,) = outputs(model_of(path, "question-answering", top_k=50), [(text, None, {"question": QUESTION})])
    assert [one["answer"] for one in output["answers"]] == [
        text[start:end] for _, start, end in best_answers(path, text, 15)[0]
    ]


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DEBERTA])
def test_a_text_of_spaces_has_no_answer(architecture: str, tmp_path: Path) -> None:
    """An empty one without a probability, also where the tokenizer makes tokens of spaces."""
    path = tiny(tmp_path, architecture, "ForQuestionAnswering", labels=("a", "b"))
    for output in outputs(
        model_of(path, "question-answering"), [(text, None, {"question": QUESTION}) for text in (" ", "  \t\u00a0\n")]
    ):
        assert output == {"answer": "", "score": 0.0, "start": 0, "end": 0}


def test_a_tokenizer_without_words(tmp_path: Path) -> None:
    """Where it takes the whole text for one, the answer ends at spaces."""
    path = tiny(tmp_path, XLM_ROBERTA, "ForQuestionAnswering", labels=("a", "b"))
    edit(
        path,
        "tokenizer.json",
        pre_tokenizer=None,
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    )
    model = model_of(path, "question-answering", max_answer_tokens=2, top_k=4)
    text = "Angela Merkel met Tim Cook"
    (output,) = outputs(model, [(text, None, {"question": QUESTION})])
    starts = [0, *(place + 1 for place, letter in enumerate(text) if letter == " ")]
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    assert all(one["start"] in starts and one["end"] in ends for one in output["answers"])
    assert min(len(one["answer"]) for one in output["answers"]) < 8


@pytest.mark.parametrize("architecture", [BERT, ROBERTA])
def test_a_word_that_is_cut_is_answered_whole(architecture: str, tmp_path: Path) -> None:
    """Its letters beyond what the model reads are part of the answer, as in windows."""
    path = tiny(tmp_path, architecture, "ForQuestionAnswering", labels=("a", "b"), max_tokens=24)
    text = "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"
    event: Event = (text, None, {"question": "who?"})
    (output,) = outputs(model_of(path, "question-answering"), [event])
    assert (output["answer"], output["end"]) == (text, len(text))
    (output,) = outputs(model_of(path, "question-answering", on_overflow="window"), [event])
    assert (output["answer"], output["windows"] > 1) == (text, True)


@pytest.mark.parametrize("architecture", [BERT, ROBERTA])
def test_long_texts_are_answered_by_windows(architecture: str, tmp_path: Path) -> None:
    """The best answer of all windows, wherever it stands; the result says how many there were."""
    path = tiny(tmp_path, architecture, "ForQuestionAnswering", labels=("a", "b"))
    _, tokenizer = reference(path, "ForQuestionAnswering")
    room = 48 - len(tokenizer([QUESTION], [""])["input_ids"][0])
    model = model_of(path, "question-answering", on_overflow="window", max_answer_tokens=6)
    counts: list[int] = []
    for text in [*TEXTS, " ".join(TEXTS), " ".join(reversed(TEXTS))]:
        if not text.strip():
            continue
        (output,) = outputs(model, [(text, None, {"question": QUESTION})])
        score, start, end = best_answers(path, text, 6, stride=room // 2)[0][0]
        assert output["score"] == near(score)
        assert output["answer"] == text[start:end]
        counts.append(output.get("windows", 1))
    assert (min(counts), max(counts) > 3) == (1, True)


@pytest.mark.parametrize("on_overflow", ["window", "truncate"])
def test_a_question_is_never_cut(on_overflow: Any, tmp_path: Path) -> None:
    """One that leaves the text no room is refused; its neighbours are answered."""
    path = tiny(tmp_path, BERT, "ForQuestionAnswering", labels=("a", "b"))
    model = model_of(path, "question-answering", on_overflow=on_overflow)
    events: list[Event] = [
        (TEXTS[6], None, {"question": "who " * 60}),
        (TEXTS[0], None, {"question": QUESTION}),
        (TEXTS[6], None, {"question": " " * 5000 + QUESTION}),
        (TEXTS[6], None, {"question": QUESTION}),
    ]
    failure, output, spaced, plain = outcomes(model, events)
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.INFER_TOO_LONG
    assert isinstance(output, dict)
    assert spaced == plain


def test_a_long_question_is_longer_than_the_text(tmp_path: Path) -> None:
    """The text is cut, not the question, where plain truncation would cut the longer one."""
    path = tiny(tmp_path, BERT, "ForQuestionAnswering", labels=("a", "b"))
    question = "who met in Paris and why would anyone pay forty euros for a cable?"
    model = model_of(path, "question-answering", top_k=3)
    (output,) = outputs(model, [(TEXTS[6], None, {"question": question})])
    expected = best_answers(path, TEXTS[6], 15, question=question)[0][:3]
    assert [one["score"] for one in output["answers"]] == near([score for score, *_ in expected])


def test_no_answer_needs_a_token_for_it(tmp_path: Path) -> None:
    """At load: without one the score of no answer would always be 0."""
    path = tiny(tmp_path, BERT, "ForQuestionAnswering", labels=("a", "b"))
    edit(path, "tokenizer_config.json", cls_token=None)
    outputs(model_of(path, "question-answering"), [(TEXTS[0], None, {"question": QUESTION})])
    with pytest.raises(ModelError, match=r"no_answer.*cls_token"):
        model_of(path, "question-answering", no_answer=True)
