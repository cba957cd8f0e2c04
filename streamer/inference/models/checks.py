"""What is wrong with how a pipeline asks for its model, as far as it can be told without loading anything."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final

from streamer.errors import ModelError
from streamer.extras import absent, install_command
from streamer.inference.models.contradictions import contradicted
from streamer.inference.models.reference import Located, resolve
from streamer.inference.served.options import SERVED_OPTIONS
from streamer.inference.spec import SERVED, WorkerSpec
from streamer.inference.tasks.option_values import refusals
from streamer.inference.tasks.options import OPTIONS

WINDOWED: Final = frozenset({"text-classification", "token-classification", "embedding", "question-answering"})
"""Tasks that can read a long text in windows."""
CONVERTED: Final = frozenset(
    {
        "text-classification",
        "token-classification",
        "embedding",
        "similarity",
        "rerank",
        "zero-shot-classification",
        "question-answering",
    }
)
"""Tasks whose networks OpenVINO can run: those that do nothing but call them."""

_ELSEWHERE: Final = {
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "feature-extraction": "embedding",
    "sentence-similarity": "similarity",
    "text-ranking": "rerank",
}
"""What transformers and the hub call some tasks."""

OPENVINO_PARAMETERS: Final = 5_000_000
"""Below it `auto` does not convert: what a pass of so small a network costs is not its arithmetic."""


def check(spec: WorkerSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    """The place of each problem below the pipeline, and what to write instead. Of the user's own classes nothing is
    known."""
    if spec.model.startswith(("python:", "builtin:")):
        if spec.adapter:
            yield ("adapter",), f"{spec.model} is no directory of files that it could change; remove it"
        return
    if spec.backend in SERVED or spec.model.startswith(("http://", "https://")):
        yield from _check_served(spec)
        return
    if spec.task not in OPTIONS:
        near = _ELSEWHERE.get(spec.task) or next(iter(difflib.get_close_matches(spec.task, OPTIONS, n=1)), "")
        meant = f'did you mean "{near}"? ' if near else ""
        tasks = ", ".join(OPTIONS)
        yield ("task",), f"task {spec.task!r} is unknown; {meant}it is one of {tasks}, or any with a python: model"
        return
    if spec.on_overflow == "window" and spec.task not in WINDOWED:
        yield (
            ("on_overflow",),
            f"task {spec.task} can't read a long text in windows: set on_overflow to truncate or reject",
        )
    if spec.backend == "openvino" and (reason := _lacks_for_openvino(spec)):
        yield ("backend",), f"OpenVINO can't run it: {reason}; set backend to auto or torch"
    refused = dict(refusals(OPTIONS[spec.task], spec.options, spec.task))
    for name, text in refused.items():
        yield ("options", name), text
    if not refused:
        yield from _check_files(spec)


def _check_served(spec: WorkerSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    """Of a model that a server runs."""
    tasks = SERVED_OPTIONS.get(spec.backend, {})
    if not tasks:
        return  # `config.served_checks` says it
    if spec.task not in tasks:
        yield ("task",), f"backend {spec.backend} has no task {spec.task!r}: it has {', '.join(tasks)}"
    else:
        for name, text in refusals(tasks[spec.task], spec.options, spec.task):
            yield ("options", name), text


def has_openvino() -> bool:
    """Whether the extra `cpu` is there."""
    return not absent("cpu")


def without_openvino(spec: WorkerSpec, device: str, parameters: int) -> str:
    """Why OpenVINO is not even tried for a network of so many parameters on `device`; "" when it is."""
    if spec.backend == "torch":
        return "the backend is torch"
    if not has_openvino():
        return f"it is not installed here ({install_command('cpu')})"
    if device != "cpu":
        return f"it runs on the CPU, and the device is {device}"
    if reason := _lacks_for_openvino(spec):
        return reason
    if spec.backend == "auto" and parameters < OPENVINO_PARAMETERS:
        return "it is too small to be worth converting"
    return ""


def _lacks_for_openvino(spec: WorkerSpec) -> str:
    if spec.task not in CONVERTED:
        return f"task {spec.task} reaches into its network"
    if spec.compile:
        return "compile = true is torch's"
    return f"it runs on the CPU, and the device is {spec.device}" if spec.device.startswith("cuda") else ""


def _check_files(spec: WorkerSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    """Of a directory: the options that its files contradict."""
    try:
        located = resolve(spec.model)
        if isinstance(located, Located):
            for name, text in contradicted(spec.task, spec.options, located.path):
                yield ("options", name), text
    except ModelError:
        return  # a start says it
