"""Which task a directory of files is for, as far as they tell; nothing is loaded.

The network's class in config.json says what its head answers. Where that leaves several tasks, sentence-transformers'
own files, `task_specific_params` and the `pipeline_tag` of the model's card say which one is meant.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from streamer.errors import ModelError
from streamer.inference.models.heads import head_of
from streamer.inference.models.model_json import read
from streamer.inference.models.safety import read_json
from streamer.inference.models.sentence_files import CONFIG_FILE, MODULES_FILE

_CARD: Final = "README.md"
_CARD_BYTES: Final = 1 << 16
_TAG: Final = re.compile(r"^pipeline_tag:[ \t]*[\"']?([\w-]+)", re.MULTILINE)
_TAGS: Final = {
    "feature-extraction": "embedding",
    "sentence-similarity": "embedding",
    "text-ranking": "rerank",
    "summarization": "summarization",
    "translation": "translation",
    "text2text-generation": "text2text-generation",
    "text-generation": "text-generation",
    "zero-shot-classification": "zero-shot-classification",
    "text-classification": "text-classification",
}
_VECTORS: Final = ("embedding", "similarity", "zero-shot-classification")
_LANGUAGE: Final = ("text-generation", "scoring")
_SEQ2SEQ: Final = ("text2text-generation", "summarization", "translation")
_HEADS: Final = {
    "TokenClassification": ("token-classification",),
    "QuestionAnswering": ("question-answering",),
    "MaskedLM": ("fill-mask",),
    "PreTraining": ("fill-mask",),
    "CausalLM": _LANGUAGE,
    "LMHead": _LANGUAGE,
    "Bare": _VECTORS,
}
"""The usual task of each head first."""
_TRANSLATORS: Final = frozenset({"marian", "m2m_100", "mbart", "fsmt", "nllb-moe"})
_SUMMARIZERS: Final = frozenset({"pegasus", "pegasus_x", "bigbird_pegasus"})


class TaskOf(msgspec.Struct, frozen=True):
    """`task` is "" where the files leave it open; `tasks` are those that the network can serve, none where it can serve
    none; `why` says which file tells."""

    task: str
    tasks: tuple[str, ...]
    why: str


def task_of(path: Path) -> TaskOf:
    """The task of a model's directory. Raises `ModelError` for files that can't be read."""
    if (path / MODULES_FILE).is_file():
        settings = read(path, CONFIG_FILE, dict[str, Any]) if (path / CONFIG_FILE).is_file() else {}
        if settings.get("model_type") == "CrossEncoder":
            return TaskOf("rerank", ("rerank",), f"{CONFIG_FILE} has model_type CrossEncoder")
        return TaskOf(_VECTORS[0], _VECTORS, f"{MODULES_FILE} is of sentence-transformers")
    config = read_json(path / "config.json")
    named = [str(name) for name in config.get("architectures") or ()]
    if not named:
        return TaskOf("", (), "config.json names no architectures")
    tasks, why = _tasks(config, named[0]), f"config.json has the architecture {named[0]}"
    if tagged := _tagged(path):
        meant = _TAGS.get(tagged)
        if len(tasks) > 1 and meant in tasks:
            return TaskOf(meant, tasks, f"{why}, and {_CARD} the pipeline_tag {tagged}")
    if named[0].endswith("SequenceClassification"):
        chosen = _of_scores(config, tasks)
    elif tasks == _SEQ2SEQ:
        chosen = _of_params(config)
    else:
        chosen = tasks[0] if tasks else ""
    return TaskOf(chosen, tasks, why)


def _tasks(config: dict[str, Any], architecture: str) -> tuple[str, ...]:
    head = head_of(architecture)
    if head == "SequenceClassification":
        labels = label_names(config)
        if len(labels) == 1 or config.get("num_labels") == 1:
            return "rerank", "text-classification"
        if any(label.lower().startswith("entail") for label in labels):
            return "text-classification", "zero-shot-classification"
        return ("text-classification",)
    if head in ("ConditionalGeneration", "Seq2SeqLM"):
        kind = str(config.get("model_type"))
        if kind in _TRANSLATORS:
            return ("translation",)
        if kind in _SUMMARIZERS:
            return ("summarization",)
        decoder = "text_config" in config and not config.get("is_encoder_decoder")
        return _LANGUAGE if decoder else _SEQ2SEQ
    return _HEADS.get(head, ())


def _of_scores(config: dict[str, Any], tasks: tuple[str, ...]) -> str:
    """A cross-encoder's one number is a score, as the library that saves such models notes."""
    if len(tasks) == 1 or (tasks[0] == "rerank" and "sentence_transformers" in config):
        return tasks[0]
    return ""


def _of_params(config: dict[str, Any]) -> str:
    """Of a model that was trained for one kind of text alone."""
    names = {str(name).partition("_")[0] for name in config.get("task_specific_params") or ()}
    return names.pop() if names in ({"summarization"}, {"translation"}) else ""


def label_names(config: dict[str, Any]) -> list[str]:
    """The names of a classifier's classes, in order; none where config.json names none."""
    names = config.get("id2label")
    if not isinstance(names, dict):
        return []
    try:
        return [str(names[key]) for key in sorted(names, key=int)]
    except ValueError:
        raise ModelError("config.json of the model: id2label has a key that is not a number") from None


def _tagged(path: Path) -> str:
    """The pipeline_tag between the lines `---` that a model's card begins with."""
    try:
        with (path / _CARD).open(encoding="utf-8", errors="replace") as file:
            text = file.read(_CARD_BYTES)
    except OSError:
        return ""
    front = text.split("\n---", 1)[0] if text.startswith("---\n") else ""
    found = _TAG.search(front)
    return found[1] if found else ""
