"""summarization, translation and text2text-generation equal plain transformers code, one text at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.channel import Done, Started
from streamer.inference.model import NON_FINITE, Encoded
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.tasks.seq2seq import Seq2Seq
from streamer.inference.worker.forwarder import Computation, Forwarder
from tests.language_models import LANGUAGES, SEQ2SEQS, tiny_seq2seq

pytestmark = pytest.mark.usefixtures("fewer_checked_tokens")

TEXTS = ["The film was good", "é 映画 🎬 naïve", "a", " ", "One text that is longer than the others are.", "x" * 200]
TASKS = dict(zip(SEQ2SEQS, ("summarization", "text2text-generation", "translation"), strict=True))


@pytest.fixture(scope="module", params=SEQ2SEQS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of each architecture."""
    return tiny_seq2seq(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of them."""
    return tiny_seq2seq(tmp_path_factory.mktemp("bart"), "bart")


def opened(path: Path, task: str = "translation", on_overflow: Any = "truncate", **options: Any) -> Seq2Seq:
    """The model in fp32."""
    spec = WorkerSpec("test", task, str(path), dtype="float32", on_overflow=on_overflow, options=options)
    model = load(spec)
    assert isinstance(model, Seq2Seq)
    return model


def run(model: Seq2Seq, texts: Sequence[str], params: Sequence[dict[str, Any] | None] | None = None) -> list[Any]:
    """All in one window, as a worker runs them."""
    encoded = model.encode(texts, None, params)
    outputs: dict[int, Any] = {index: one for index, one in enumerate(encoded) if isinstance(one, DataFailure)}

    def emit(message: Started | Done) -> None:
        if isinstance(message, Done):
            for index, (number, output) in enumerate(zip(message.numbers, message.outputs, strict=True)):
                outputs[number] = message.failures[index] if output is None else json.loads(output)

    computations = [Computation(index, one) for index, one in enumerate(encoded) if isinstance(one, Encoded)]
    Forwarder(model, emit).run(computations)
    return [outputs[index] for index in range(len(texts))]


def plain(path: Path, text: str, **options: Any) -> dict[str, Any]:
    """transformers as its documentation shows it."""
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    network: Any = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
    network.eval()
    encoded = tokenizer(text, return_tensors="pt", truncation=True)
    with torch.inference_mode():
        row = network.generate(**encoded, do_sample=False, **options)[0]
    text = tokenizer.decode(row, skip_special_tokens=True)
    return {"text": text, "source_tokens": encoded.input_ids.shape[1], "output_tokens": len(row) - 1}


def test_greedy_targets_are_those_of_plain_generate(path: Path) -> None:
    """Of mixed texts, lengths and an over-long one in shared, padded batches."""
    model = opened(path, TASKS[path.name[:-1]])
    lengths = [5, 5, 9, 9, 5, 9]
    outputs = run(model, TEXTS, [{"max_new_tokens": most} for most in lengths])
    assert outputs == [plain(path, text, max_new_tokens=most) for text, most in zip(TEXTS, lengths, strict=True)]


def test_beams_and_least_length_are_options(path: Path) -> None:
    """As generate's own."""
    model = opened(path, num_beams=3, min_length=4)
    outputs = run(model, TEXTS[:3], [{"max_new_tokens": 7}] * 3)
    assert outputs == [plain(path, text, max_new_tokens=7, num_beams=3, min_length=4) for text in TEXTS[:3]]


def test_a_prefix_goes_before_every_text(path: Path) -> None:
    """As T5 was trained with."""
    outputs = run(opened(path, prefix="summarize: ", max_new_tokens=6), TEXTS[:2])
    assert outputs == [plain(path, "summarize: " + text, max_new_tokens=6) for text in TEXTS[:2]]


def test_an_over_long_text_is_cut_or_refused(bart: Path) -> None:
    """As the pipeline says."""
    (cut,) = opened(bart).encode([TEXTS[-1]], None, None)
    assert isinstance(cut, Encoded) and cut.truncated
    (refused,) = opened(bart, on_overflow="reject").encode([TEXTS[-1]], None, None)
    assert isinstance(refused, DataFailure) and refused.code is Code.INFER_TOO_LONG


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tgt_lang": "de_DE"}, "no languages"),
        ({"temperature": 1.0}, "temperature"),
        ({"max_new_tokens": 1000}, "max_new_tokens"),
    ],
)
def test_params_that_do_not_fit_are_refused(bart: Path, params: dict[str, Any], words: str) -> None:
    """As the event's failure; a tokenizer of one language takes none."""
    (failure,) = run(opened(bart), ["a"], [params])
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.VALIDATE_PARAMS
    assert words in failure.message


def test_an_option_that_does_not_fit_is_refused_at_load(bart: Path) -> None:
    """Before any event is read."""
    with pytest.raises(ModelError, match="no languages"):
        opened(bart, tgt_lang="de_DE")


def test_a_multilingual_model_begins_with_the_target_language(bart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of several languages share a window; an unknown language is refused."""
    tokenizers = type(AutoTokenizer.from_pretrained(bart))
    monkeypatch.setattr(tokenizers, "src_lang", "", raising=False)
    model = opened(bart)
    asked = [{"tgt_lang": language, "max_new_tokens": 5} for language in (*LANGUAGES, "xx_XX")]
    german, french, unknown = run(model, ["a film"] * 3, asked)
    assert german == plain(bart, "a film", max_new_tokens=5, forced_bos_token_id=LANGUAGES["de_DE"])
    assert french == plain(bart, "a film", max_new_tokens=5, forced_bos_token_id=LANGUAGES["fr_FR"])
    assert isinstance(unknown, DataFailure) and "tgt_lang" in unknown.message


def test_memory_that_runs_out_halves_the_batch(bart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is answered."""
    model = opened(bart, max_new_tokens=4)
    generate = model.network.generate

    def fail_beyond_two(**given: Any) -> Any:
        if len(given["input_ids"]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(**given)

    monkeypatch.setattr(model.network, "generate", fail_beyond_two)
    assert run(model, TEXTS[:5]) == [plain(bart, text, max_new_tokens=4) for text in TEXTS[:5]]


def test_a_row_that_is_not_a_number_is_told_from_its_neighbours(bart: Path) -> None:
    """A token whose embedding is not finite spoils its own text alone."""
    model = opened(bart, max_new_tokens=4)
    encoded = [one for one in model.encode(["good", "bad~", "fine"], None, None) if isinstance(one, Encoded)]
    table = model.network.get_input_embeddings().weight.clone()
    table[encoded[1].content.ids[3]] = float("nan")
    model.network.set_input_embeddings(
        torch.nn.Embedding(len(table), table.shape[1], _weight=table)
    )  # no longer the output's
    answers = model.forward(encoded)
    assert answers[1] is NON_FINITE
    assert isinstance(answers[0], Answer) and isinstance(answers[2], Answer)


def test_the_worker_hears_of_every_step(bart: Path) -> None:
    """So that a long generation keeps its lease."""
    model = opened(bart)
    steps: list[int] = []
    model.on_step = lambda: steps.append(1)
    run(model, ["a"], [{"max_new_tokens": 7, "tgt_lang": None}])
    assert 1 <= len(steps) <= 7
