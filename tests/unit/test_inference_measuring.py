"""What the worker measures: margins, entropies and projections of a batch's numbers, and unknown tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from streamer.core.measures import (
    ABSENT,
    HEAD_BYTES,
    PROJECTION_BINS,
    PROJECTIONS,
    are_measures,
    pack,
    repetition_bin,
    share_bin,
)
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure
from streamer.inference.backends.plain import answer_of
from streamer.inference.channel import Done
from streamer.inference.model import NON_FINITE
from streamer.inference.models.unknown_tokens import of_backend
from streamer.inference.parent.process import _forward_done
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.tasks.measuring import of_scores, of_vectors
from tests.generation_kit import Loop, Plain, generation
from tests.language_models import tiny_decoder, tiny_seq2seq
from tests.models import tiny_bert, tiny_encoder


@pytest.mark.parametrize("labels", [2, 3, 28])
def test_scores_are_measured_as_by_hand(labels: int) -> None:
    """One row of a batch at a time, in plain Python."""
    rows = np.random.default_rng(1).dirichlet([0.3] * labels, 200).astype(np.float32)
    rows[0], rows[1] = 0, 1 / labels
    rows[0, 1] = 1
    found = of_scores(list(range(200)), rows, shares=True)
    edge = 0
    for unknown, (row, one) in enumerate(zip(rows.tolist(), found, strict=True)):
        second, first = sorted(row)[-2:]
        entropy = -sum(share * math.log(share) for share in row if share) / math.log(labels)
        edge += one != pack(unknown, share_bin(first - second), share_bin(entropy))
    assert edge <= 2  # where float32 falls on the other side of a bin's edge
    assert found[0] == pack(0, 19, 0)
    assert found[1][5] == 19
    several = of_scores([0], np.array([[0.9, 0.75, 0.9]], dtype=np.float32), shares=False)
    assert several == [pack(0, 0)]


def test_vectors_are_projected_by_their_direction() -> None:
    """Whatever their length; each projection of random directions has a mean of 0 and a deviation of 1."""
    vectors = np.random.default_rng(2).standard_normal((2_000, 384)).astype(np.float32)
    found = of_vectors([0] * 2_000, vectors)
    assert found == of_vectors([0] * 2_000, vectors * 8)
    assert all(map(are_measures, found))
    places = np.array([list(one[HEAD_BYTES:]) for one in found])
    assert places.shape == (2_000, PROJECTIONS)
    width = 6 / PROJECTION_BINS
    assert np.abs(places.mean(axis=0) - (PROJECTION_BINS - 1) / 2).max() < 0.3
    assert np.abs(places.std(axis=0) * width - 1).max() < 0.1


def test_a_shift_of_the_vectors_moves_projections() -> None:
    """By half of their length in one direction: that many bins are far from where they were."""
    drawn = np.random.default_rng(3).standard_normal((1_000, 64)).astype(np.float32)
    before, after = (
        np.array([list(one[HEAD_BYTES:]) for one in of_vectors([0] * 1_000, vectors)]).mean(axis=0)
        for vectors in (drawn, drawn + 0.5)
    )
    assert np.abs(after - before).max() > 1


def test_no_vector_is_refused() -> None:
    """Also one of zeros, of a model that gives one for a text without tokens."""
    zero, large = of_vectors([0, 5], np.array([[0, 0], [1e30, -1e30]], dtype=np.float32))
    assert are_measures(zero) and are_measures(large)
    assert large[0] == 5


def test_the_projections_never_change() -> None:
    """Reports of different members and releases are summed: these bins stand for ever."""
    ((*places,),) = [one[HEAD_BYTES:] for one in of_vectors([0], np.arange(1, 9, dtype=np.float32)[None])]
    assert places == PLACES


PLACES = [10, 6, 8, 5, 7, 3, 11, 7, 10, 8, 10, 5, 7, 2, 11, 5, 5, 6, 7, 10, 4, 7, 7, 3, 5, 7, 9, 8, 11, 4, 7, 8]


def test_unknown_tokens_of_each_kind_of_tokenizer() -> None:
    """The unknown token; with byte fallback also the bytes; none where all text is bytes."""
    words = Tokenizer(models.WordLevel({"[UNK]": 1, "a": 0}, unk_token="[UNK]"))
    assert of_backend(words).count([0, 1, 1, 0]) == 2
    unigram = Tokenizer(models.Unigram([("<s>", 0.0), ("<unk>", 0.0), ("a", -1.0)], 1, False))
    assert of_backend(unigram).count([0, 1, 2, 1, 1]) == 3
    pieces = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256, "a": 257}
    fallback = Tokenizer(models.BPE(pieces, [], unk_token="<unk>", byte_fallback=True))
    assert of_backend(fallback).count([3, 257, 256, 200, 257]) == 3
    assert of_backend(Tokenizer(models.BPE({"a": 0, "b": 1}, []))).count([0, 1, 0]) == 0


@pytest.mark.parametrize(
    ("output", "measures"),
    [
        ({"label": "a", "score": 0.72, "scores": [{"label": "a", "score": 0.72}, {"score": 0.28}]}, (8, 17)),
        ({"scores": [{"score": 0.92}, {"score": 0.7}]}, (4, ABSENT)),
        ({"scores": [0.9, 0.7]}, None),
        ({"scores": [{"score": 7}, {"score": 0.1}]}, None),
        ({"scores": [{"score": None}, {}]}, None),
        ({"scores": "ab"}, None),
        ({"vector": [[1.0], [2.0]]}, None),
        ({"vector": [[1.0], 2.0]}, None),
        ({"vector": ["x"]}, None),
        ({}, None),
    ],
)
def test_the_outputs_of_a_class_of_ones_own_are_measured_by_their_form(
    output: dict[str, Any], measures: tuple[int, int] | None
) -> None:
    """And left alone where they mean something else."""
    answer = answer_of(output)
    assert isinstance(answer, Answer)
    assert answer.measures == (pack(0, *measures) if measures else b"")
    for scale in (1, 1e300):
        vector = answer_of({"vector": [1.0 * scale, -2.0 * scale, 0.5 * scale]})
        assert isinstance(vector, Answer)
        assert vector.measures == of_vectors([0], np.array([[1.0, -2.0, 0.5]], dtype=np.float32))[0]


# --- from a model to the driver --------------------------------------------------------------------------------------

TEXTS = ["the film was good", "ж ☃", "i hate this long plot and the music !"]


def opened(task: str, path: Path, **options: Any) -> Any:
    return load(WorkerSpec("test", task, str(path), dtype="float32", options=options))


@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"dimensions": 8}])
def test_embeddings_are_measured_as_they_are_published(tmp_path: Path, options: dict[str, Any]) -> None:
    """Cut and normalised; with the tokens that the tokenizer does not know."""
    model = opened("embedding", tiny_encoder(tmp_path), **options)
    answers: list[Answer] = model.forward(model.encode(TEXTS, None, None))
    vectors = np.array([json.loads(answer.output)["vector"] for answer in answers], dtype=np.float32)
    assert [answer.measures for answer in answers] == of_vectors([0, 2, 0], vectors)


def test_a_text_without_answer_shifts_no_measures(tmp_path: Path) -> None:
    """A token whose embedding is not finite spoils its own text alone; the others have the margins of their scores."""
    model = opened("text-classification", tiny_bert(tmp_path), top_k=100)
    encoded = model.encode(["sehr gut", *TEXTS], None, None)
    with torch.no_grad():
        table = model.network.bert.embeddings.word_embeddings.weight
        table[encoded[0].content.rows[0].ids[1]] = float("nan")
    spoilt, *answers = model.forward(encoded)
    assert spoilt is NON_FINITE
    rows = [[each["score"] for each in json.loads(answer.output)["scores"]] for answer in answers]
    scores = np.array(rows, dtype=np.float32)
    assert [answer.measures for answer in answers] == of_scores([0, 2, 0], scores, shares=True)


def test_repetition_is_of_the_tokens_that_were_written(tmp_path: Path) -> None:
    """Of streamed texts and of those of an encoder and decoder; in the frames that go to the driver."""
    prompt, length = "The film was good", 24
    path = tiny_decoder(tmp_path / "decoder", "llama")
    plain = Plain(path)
    ids = plain.ids(prompt)
    with torch.inference_mode():
        row = plain.network.generate(input_ids=ids, do_sample=False, max_new_tokens=length)[0, ids.shape[1] :].tolist()
    with generation(path) as model:
        loop = Loop(model)
        loop.run([prompt], [{"max_new_tokens": length}])
    (done,) = [message for message in loop.said if isinstance(message, Done)]
    assert done.measures == [pack(0, repetition=repetition_bin(row))]
    assert done.measures != [b""]
    translator = opened("text2text-generation", tiny_seq2seq(tmp_path / "seq2seq", "t5"))
    (answer,) = translator.forward(translator.encode([prompt], None, [{"max_new_tokens": length}]))
    written = json.loads(answer.output)["output_tokens"]
    assert are_measures(answer.measures) and bool(answer.measures) is (written > 2)


def test_measures_stay_with_their_answers_on_the_way_to_the_driver() -> None:
    """Also beside failures and truncated texts, and where no answer has any."""
    failure = DataFailure(Code.INFER_NAN, "")
    done = Done([1, 2, 3], [b"a", None, b"c"], [4, 0, 5], [2], {1: failure}, measures=[pack(1), b"", pack(3)])
    assert _forward_done(0, done).outcomes == [
        Answer(b"a", tokens=4, measures=pack(1)),
        failure,
        Answer(b"c", truncated=True, tokens=5, measures=pack(3)),
    ]
    assert _forward_done(0, Done([1], [b"a"], [4], [], {})).outcomes == [Answer(b"a", tokens=4)]
