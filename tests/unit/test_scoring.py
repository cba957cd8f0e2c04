"""scoring equals plain transformers code, one text at a time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure
from streamer.inference.model import NON_FINITE, Encoded
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.tasks.scoring import NO_PREDICTED_TOKEN, TOO_LARGE, Scoring
from tests.language_models import DECODERS, tiny_decoder

pytestmark = pytest.mark.usefixtures("fewer_checked_tokens")

TEXTS = ["The film was good", "é 映画 🎬 naïve", "a", "ab", "One text that is longer than the others are.", "x" * 200]


@pytest.fixture(scope="module", params=DECODERS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal model of each architecture."""
    return tiny_decoder(tmp_path_factory.mktemp(request.param), request.param)


def opened(path: Path, on_overflow: Any = "truncate", **options: Any) -> Scoring:
    """The model in fp32."""
    model = load(WorkerSpec("test", "scoring", str(path), dtype="float32", on_overflow=on_overflow, options=options))
    assert isinstance(model, Scoring)
    return model


def run(model: Scoring, texts: list[str], params: list[dict[str, Any] | None] | None = None) -> list[dict[str, Any]]:
    """All in one batch."""
    encoded = [one for one in model.encode(texts, None, params) if isinstance(one, Encoded)]
    return [json.loads(answer.output) for answer in model.forward(encoded) if isinstance(answer, Answer)]


def plain(path: Path) -> list[list[float]]:
    """Each text's log-likelihoods by transformers, one at a time."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    network: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    network.eval()
    found = []
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt", truncation=True).input_ids
        with torch.inference_mode():
            likelihoods = network(input_ids=ids).logits[0, :-1].log_softmax(-1)
        found.append(likelihoods.gather(1, ids[0, 1:, None])[:, 0].tolist())
    return found


def test_likelihoods_are_those_of_one_text_alone(path: Path) -> None:
    """In a batch of mixed lengths, recurrent networks included."""
    outputs = run(opened(path), TEXTS, [{"per_token": True}] * len(TEXTS))
    for output, expected in zip(outputs, plain(path), strict=True):
        assert [one["log_likelihood"] for one in output["per_token"]] == pytest.approx(expected, abs=1e-4)
        assert output["tokens"] == len(expected)
        if expected:
            assert output["log_likelihood"] == pytest.approx(math.fsum(expected), abs=1e-4 * len(expected))
            assert output["perplexity"] == pytest.approx(math.exp(-math.fsum(expected) / len(expected)), rel=1e-4)


def test_tokens_are_told_on_demand_only(path: Path) -> None:
    """By the event, or by the pipeline for events that do not say."""
    assert "per_token" not in run(opened(path), ["ab"])[0]
    names = [one["token"] for one in run(opened(path, per_token=True), ["abc"])[0]["per_token"]]
    assert names == ["b", "c"]
    assert "per_token" not in run(opened(path, per_token=True), ["ab"], [{"per_token": False}])[0]


def test_what_does_not_fit_is_refused(path: Path) -> None:
    """Params by name, over-long texts on demand, pairs."""
    texts, pairs = ["a", "x" * 200, "a"], [None, None, "b"]
    refused = opened(path, on_overflow="reject").encode(texts, pairs, [{"colour": 1}, None, None])
    codes = [one.code for one in refused if isinstance(one, DataFailure)]
    assert codes == [Code.VALIDATE_PARAMS, Code.INFER_TOO_LONG, Code.VALIDATE_TEXT_PAIR]


def test_a_text_that_is_not_a_number_is_told_from_its_neighbours(path: Path) -> None:
    """A token whose embedding is not finite spoils its own text alone."""
    model = opened(path)
    encoded = [one for one in model.encode(["good", "ba~", "fine"], None, None) if isinstance(one, Encoded)]
    table = model.network.get_input_embeddings().weight.clone()
    table[encoded[1].content.ids[1]] = float("nan")
    model.network.set_input_embeddings(
        torch.nn.Embedding(len(table), table.shape[1], _weight=table)
    )  # no longer the output's
    answers = model.forward(encoded)
    assert answers[1] is NON_FINITE
    assert isinstance(answers[0], Answer) and isinstance(answers[2], Answer)


def test_what_is_undefined_is_null_with_a_reason(path: Path) -> None:
    """Of a text with no predicted token, and where no number could hold it; the schema knows both."""
    schema = json.loads((Path(__file__).parents[2] / "schemas/outputs/scoring.json").read_text())
    model = opened(path, per_token=True)
    (alone,) = run(model, ["a"])
    assert alone == {
        "log_likelihood": None,
        "perplexity": None,
        "tokens": 0,
        "reason": NO_PREDICTED_TOKEN,
        "per_token": [],
    }
    (encoded,) = model.encode(["ab"], None, None)
    assert isinstance(encoded, Encoded)
    far = model._answer(encoded, [-800.0])
    assert isinstance(far, Answer)
    output = json.loads(far.output)
    assert (output["perplexity"], output["reason"], output["log_likelihood"]) == (None, TOO_LARGE, -800.0)
    for one in (alone, output):
        jsonschema.validate(one, schema)
