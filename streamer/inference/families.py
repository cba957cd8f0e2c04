"""Which family serves a task; imports torch only for those that need it."""

from __future__ import annotations

from streamer.errors import ModelError
from streamer.inference.custom import CustomModel
from streamer.inference.model import Model
from streamer.inference.null import NullModel
from streamer.inference.reference import Null, PythonClass, resolve
from streamer.inference.spec import WorkerSpec

TASKS = ("text-classification", "embedding")


def load(spec: WorkerSpec, worker: int = 0) -> Model:
    """The model that `spec` names, ready to run. Raises `ModelError` with words for the operator."""
    located = resolve(spec.model, downloads=spec.downloads)
    if isinstance(located, Null):
        return NullModel(spec)
    if isinstance(located, PythonClass):
        return CustomModel(spec, located.module, located.name)
    match spec.task:
        case "text-classification":
            from streamer.inference.text_classification import TextClassification

            return TextClassification(spec, located, worker)
        case "embedding":
            from streamer.inference.embedding import Embedding

            return Embedding(spec, located, worker)
    raise ModelError(f"task {spec.task!r} is unknown: it is one of {', '.join(TASKS)}, or any with a python: model")
