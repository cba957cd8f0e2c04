"""Which family serves a task; imports torch only for those that need it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from streamer.errors import ModelError
from streamer.inference.model import Model
from streamer.inference.models.adapter import adapted
from streamer.inference.models.checks import check
from streamer.inference.models.custom import CustomModel
from streamer.inference.models.null import NullModel
from streamer.inference.models.reference import Null, PythonClass, ServedModelUrl, resolve
from streamer.inference.spec import SERVED, WorkerSpec

# Where each task's family is: a module of this package, and what there makes the model.
_FAMILIES: Final = {
    "text-classification": ("text_classification", "TextClassification"),
    "token-classification": ("token_classification", "TokenClassification"),
    "embedding": ("embedding", "Embedding"),
    "similarity": ("similarity", "Similarity"),
    "rerank": ("rerank", "Rerank"),
    "zero-shot-classification": ("zero_shot", "load"),
    "question-answering": ("question_answering", "QuestionAnswering"),
    "fill-mask": ("fill_mask", "FillMask"),
    "summarization": ("seq2seq", "Seq2Seq"),
    "translation": ("seq2seq", "Seq2Seq"),
    "text2text-generation": ("seq2seq", "Seq2Seq"),
    "text-generation": ("text_generation", "TextGeneration"),
    "scoring": ("scoring", "Scoring"),
}
TASKS: Final = tuple(_FAMILIES)


def load(spec: WorkerSpec, worker: int = 0) -> Model:
    """The model that `spec` names, ready to run. Raises `ModelError` with words for the operator."""
    located = resolve(spec.model)
    if isinstance(located, Null):
        return NullModel(spec)
    if isinstance(located, PythonClass):
        return CustomModel(spec, located.module, located.name)
    for place, text in check(spec):
        raise ModelError(f"{'.'.join(place)}: {text}")
    if isinstance(located, ServedModelUrl):
        from streamer.inference.served.model import ServedModel  # brings asyncio

        if spec.backend not in SERVED:
            raise ModelError(f"model {located.url} is a server: set backend to openai or tei")
        return ServedModel(spec, located.url)
    family = import_family(spec.task)
    model: Model = family(spec, adapted(located, spec.model, spec.adapter, spec.task), worker)
    return model


def import_family(task: str) -> Any:
    """What makes a model for one of `TASKS`, after all imports that it needs; they take seconds."""
    import_module("transformers.utils")
    from streamer.inference.backends.compat import leave_out_unused_packages  # imports torch

    leave_out_unused_packages()
    module, name = _FAMILIES[task]
    return getattr(import_module(f"streamer.inference.tasks.{module}"), name)
