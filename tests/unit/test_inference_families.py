"""Families loaded in this process: what their options and files make of the same weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from streamer.core.record import Answer
from streamer.errors import ModelError
from streamer.inference.backends.packed_linear import pack
from streamer.inference.model import NON_FINITE, Encoded, Model
from streamer.inference.models.device import choose_dtype
from streamer.inference.spec import DType, WorkerSpec
from streamer.inference.tasks.families import load
from tests.models import tiny_bert, tiny_encoder

TEXTS = ["the film was good", "a", "i hate this long plot and the music !"]


def embedder(path: Path, dtype: DType = "float32", **options: object) -> Model:
    """An embedding model over these files."""
    return load(WorkerSpec("test", "embedding", str(path), dtype=dtype, options=options))


def run(model: Model, texts: list[str]) -> list[dict[str, Any]]:
    """All texts in one padded batch."""
    encoded = [one for one in model.encode(texts, None, None) if isinstance(one, Encoded)]
    answers = model.forward(encoded)
    return [json.loads(answer.output) for answer in answers if isinstance(answer, Answer)]


def vectors(model: Model) -> npt.NDArray[np.float64]:
    """The vectors of `TEXTS`."""
    return np.array([output["vector"] for output in run(model, TEXTS)])


def hidden_states(path: Path) -> list[npt.NDArray[np.float32]]:
    """Plain transformers' last hidden state of each of `TEXTS`, one at a time."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    with torch.inference_mode():
        return [network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy() for text in TEXTS]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder without sentence-transformers files."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def test_the_default_is_the_mean_as_it_is(encoder: Path) -> None:
    """Of real tokens only, though the batch is padded; not normalised."""
    expected = np.array([state.mean(axis=0) for state in hidden_states(encoder)])
    assert vectors(embedder(encoder)) == pytest.approx(expected, abs=1e-5)


def test_pooling_and_normalising_by_option(encoder: Path) -> None:
    """CLS takes the first token, max ignores padding."""
    states = hidden_states(encoder)
    first = np.array([state[0] for state in states])
    assert vectors(embedder(encoder, pooling="cls")) == pytest.approx(first, abs=1e-5)
    highest = np.array([state.max(axis=0) for state in states])
    assert vectors(embedder(encoder, pooling="max")) == pytest.approx(highest, abs=1e-5)
    normal = first / np.linalg.norm(first, axis=1, keepdims=True)
    assert vectors(embedder(encoder, pooling="cls", normalize=True)) == pytest.approx(normal, abs=1e-5)


def test_a_prompt_goes_before_every_text(encoder: Path) -> None:
    """As models trained with one ask for."""
    prompted = run(embedder(encoder, prompt="i love "), ["it"])
    assert prompted == run(embedder(encoder), ["i love it"])


def test_low_precision_that_is_too_far_off_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The model runs in float32, and a warning says why."""
    path = tiny_bert(tmp_path)  # its wide random weights magnify every rounding
    with caplog.at_level(logging.WARNING):
        model = load(WorkerSpec("test", "text-classification", str(path), dtype="bfloat16"))
    assert model.card.dtype == "float32"
    assert model.card.tolerance == 1e-4
    assert "float32" in caplog.text


def test_low_precision_within_its_tolerance_is_kept(encoder: Path) -> None:
    """The card says dtype and tolerance, and the vectors keep to it."""
    model = embedder(encoder, dtype="bfloat16")
    assert model.card.dtype == "bfloat16"
    low, full = vectors(model), vectors(embedder(encoder))
    cosines = (low * full).sum(axis=1) / np.linalg.norm(low, axis=1) / np.linalg.norm(full, axis=1)
    assert 1 - cosines.min() <= model.card.tolerance


def test_packed_layers_compute_what_plain_ones_do(encoder: Path) -> None:
    """Every linear layer is replaced, and taking them back restores the network."""
    from transformers import AutoModel

    network = (
        AutoModel.from_pretrained(encoder, dtype=choose_dtype("auto", torch.device("cpu"))).eval().requires_grad_(False)
    )
    ids = torch.arange(5, 35).reshape(2, 15)
    with torch.inference_mode():
        plain = network(input_ids=ids).last_hidden_state
        packing = pack(network)
        assert not any(type(module) is torch.nn.Linear for module in network.modules())
        assert torch.allclose(network(input_ids=ids).last_hidden_state, plain, atol=0.06)
        packing.undo()
        assert torch.equal(network(input_ids=ids).last_hidden_state, plain)


def test_a_row_with_nan_is_told_from_its_neighbours(tmp_path: Path) -> None:
    """A token whose embedding is not finite spoils its own text alone."""
    model: Any = load(WorkerSpec("test", "text-classification", str(tiny_bert(tmp_path)), dtype="float32"))
    encoded = model.encode(["the film was good", "sehr gut", "a"], None, None)
    with torch.no_grad():
        table = model.network.bert.embeddings.word_embeddings.weight
        table[encoded[1].content.rows[0].ids[1]] = float("nan")
    answers = model.forward(encoded)
    assert answers[1] is NON_FINITE
    assert isinstance(answers[0], Answer)
    assert isinstance(answers[2], Answer)


def test_an_unknown_task_is_refused(encoder: Path) -> None:
    """With the tasks that there are."""
    with pytest.raises(ModelError, match="text-classification"):
        load(WorkerSpec("test", "juggling", str(encoder)))


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (tiny_encoder, {}, "not trained for text-classification"),
        (tiny_bert, {"top_k": 0}, "top_k"),
        (tiny_bert, {"colour": 1}, "colour"),
    ],
)
def test_a_model_or_option_that_does_not_fit_is_refused(
    make: Any, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """A head with random weights must never answer; options are checked at start."""
    spec = WorkerSpec("test", "text-classification", str(make(tmp_path)), dtype="float32", options=options)
    with pytest.raises(ModelError, match=words):
        load(spec)
