"""Each option of each task against a model whose files contradict it: the check that loads nothing refuses what a load
refuses, by the option's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ModelError
from streamer.inference.models.checks import check
from streamer.inference.models.reference import Located, resolve
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import import_family
from streamer.inference.tasks.options import OPTIONS
from tests.language_models import tiny_decoder, tiny_seq2seq
from tests.models import tiny_bert, tiny_encoder

Make = Callable[[Path], Path]
PLACE = "sentence_transformers.models."


def sentences(*kinds: str, router: bool = False, **files: dict[str, Any]) -> Make:
    """An encoder with these modules behind it; `files` are of their configurations, by kind, and of the model."""

    def make(path: Path) -> Path:
        tiny_encoder(path)
        modules = [("", "Transformer"), *((f"{number}_{kind}", kind) for number, kind in enumerate(kinds, 1))]
        entries = [
            {"idx": number, "name": str(number), "path": folder, "type": PLACE + kind}
            for number, (folder, kind) in enumerate(modules)
        ]
        (path / "modules.json").write_text(json.dumps(entries))
        for folder, kind in modules[1:]:
            (path / folder).mkdir()
            (path / folder / "config.json").write_text(json.dumps(files.get(kind, {})))
        (path / "config_sentence_transformers.json").write_text(json.dumps(files.get("model", {})))
        return path

    return make


def cross_encoder(path: Path) -> Path:
    return tiny_bert(path, labels=("score",))


def sampled(path: Path) -> Path:
    """A language model whose files search with beams."""
    tiny_decoder(path, "gpt2", chat=True)
    (path / "generation_config.json").write_text(json.dumps({"num_beams": 4}))
    return path


POOLED = sentences("Pooling", Pooling={"pooling_mode": ["mean", "max"]})
MEAN = sentences("Pooling")
TWICE = sentences("Pooling", "Normalize", "Normalize")
LANGUAGE: Make = lambda path: tiny_decoder(path, "gpt2")  # noqa: E731
TRANSLATOR: Make = lambda path: tiny_seq2seq(path, "bart")  # noqa: E731
INFERENCE: Make = lambda path: tiny_bert(path, labels=("contradiction", "entailment"))  # noqa: E731


@dataclass(frozen=True)
class Case:
    """`more` are options that `option` needs to be one at all."""

    tasks: tuple[str, ...]
    option: str
    value: Any
    make: Make
    more: tuple[tuple[str, Any], ...] = ()


VECTORS = ("embedding", "similarity", "zero-shot-classification")
SEQ2SEQ = ("summarization", "translation", "text2text-generation")
CASES = [
    Case(VECTORS, "route", "query", tiny_encoder),
    Case(VECTORS, "route", "query", MEAN),
    Case(VECTORS, "prompt_name", "question", MEAN),
    Case(VECTORS, "prompt_name", "query", MEAN, (("prompt", "query: "),)),
    Case(VECTORS, "pooling", "cls", sentences("Pooling", "Pooling")),
    Case(("similarity",), "candidate_prompt_name", "passage", MEAN),
    Case(("embedding",), "normalize", False, TWICE),
    Case(("embedding",), "dimensions", 33, tiny_encoder),
    Case(("embedding",), "dimensions", 33, MEAN),
    Case(("embedding",), "dimensions", 65, POOLED),
    Case(("embedding",), "dimensions", 33, POOLED, (("pooling", "cls"),)),
    Case(("zero-shot-classification",), "prompt", "query: ", INFERENCE),
    Case(("zero-shot-classification",), "prompt_name", "query", INFERENCE),
    Case(("zero-shot-classification",), "pooling", "cls", INFERENCE),
    Case(("zero-shot-classification",), "route", "query", INFERENCE),
    Case(("zero-shot-classification",), "method", "inference", tiny_bert),
    Case(("rerank",), "prompt_name", "query", cross_encoder),
    Case(SEQ2SEQ, "max_new_tokens", 100_000, TRANSLATOR),
    Case(SEQ2SEQ, "src_lang", "en_XX", TRANSLATOR),
    Case(SEQ2SEQ, "tgt_lang", "en_XX", TRANSLATOR),
    Case(("text-generation",), "max_new_tokens", 128, LANGUAGE),
    Case(("text-generation",), "chat", True, LANGUAGE),
    Case(("text-generation",), "system", "Be brief.", sampled),
    Case(("text-generation",), "temperature", 0.5, sampled),
    Case(("text-generation",), "temperature", 0.5, LANGUAGE, (("num_beams", 2),)),
]
NO_FILE_CONTRADICTS = {
    # They say what is written of an answer, or how it is chosen, whatever the model is.
    **dict.fromkeys(
        ("top_k", "aggregation", "ignore", "precision", "encoding", "per_token", "candidate_labels"), "any model"
    ),
    **dict.fromkeys(("hypothesis_template", "multi_label", "activation", "min_length", "continuous"), "any model"),
    "special_tokens_in_text": "any tokenizer",
    **dict.fromkeys(("prompt", "candidate_prompt", "prefix"), "any text"),
    "num_beams": "contradicts temperature, which is named",
    "max_answer_tokens": "is cut to the text",
    "no_answer": "only the tokenizer knows whether it has a token for none",
}


def spec_of(case: Case, task: str, path: Path) -> WorkerSpec:
    options = {case.option: case.value, **dict(case.more)}
    return WorkerSpec("p", task, str(path), options=options, device="cpu", backend="torch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Make], Path]:
    """A model's directory, once each."""
    there: dict[Make, Path] = {}

    def make(how: Make) -> Path:
        if how not in there:
            how(path := tmp_path_factory.mktemp("model"))
            there[how] = path
        return there[how]

    return make


@pytest.mark.parametrize(
    ("case", "task"),
    [pytest.param(case, task, id=f"{task}-{case.option}") for case in CASES for task in case.tasks],
)
def test_what_a_load_refuses_is_refused_before(case: Case, task: str, made: Callable[[Make], Path]) -> None:
    path = made(case.make)
    spec = spec_of(case, task, path)
    assert [place for place, _ in check(spec)] == [("options", case.option)]
    located = resolve(str(path))
    assert isinstance(located, Located)
    with pytest.raises(ModelError):  # the family itself, without the check before it
        import_family(task)(spec, located, 0)


def test_every_option_has_its_case() -> None:
    """A new option is given a case above, or a reason for having none."""
    tried = {(task, case.option) for case in CASES for task in case.tasks}
    for task, kind in OPTIONS.items():
        for option in kind.__struct_fields__:
            assert (task, option) in tried or option in NO_FILE_CONTRADICTS, f"{task}: {option}"


@pytest.mark.parametrize(
    ("task", "options", "make"),
    [
        ("embedding", {"dimensions": 64, "normalize": False}, POOLED),
        ("embedding", {"dimensions": 32, "pooling": "cls", "normalize": True}, tiny_encoder),
        ("zero-shot-classification", {"method": "inference"}, INFERENCE),
        ("text-generation", {"chat": True, "system": "Be brief.", "max_new_tokens": 99}, sampled),
        ("summarization", {"max_new_tokens": 63}, TRANSLATOR),
    ],
)
def test_what_fits_is_let_pass(task: str, options: dict[str, Any], make: Make, made: Callable[[Make], Path]) -> None:
    assert not list(check(WorkerSpec("p", task, str(made(make)), options=options)))
