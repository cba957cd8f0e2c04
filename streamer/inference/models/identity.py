"""What computes an answer beside the model's files: our own code of its task, and the libraries that it stands on.

It is part of every cache key. Nothing here imports any of those libraries.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from streamer import __version__

TASK_VERSIONS: Final = {
    "text-classification": 3,
    "token-classification": 3,
    "embedding": 3,
    "similarity": 3,
    "rerank": 3,
    "zero-shot-classification": 3,
    "question-answering": 3,
    "fill-mask": 3,
    "summarization": 3,
    "translation": 3,
    "text2text-generation": 3,
    "text-generation": 3,
    "scoring": 3,
}
"""Raise a task's number with every change after which one of its answers may be another: or caches that outlive the
release go on answering as before it."""

_LIBRARIES: Final = ("torch", "transformers", "tokenizers")


def of_task(task: str, backend: str, *others: str) -> str:
    """What computes the answers of a task of ours on `backend`, with the help of `others`."""
    libraries = (*_LIBRARIES, *(["openvino"] if backend == "openvino" else []), *others)
    return " ".join([f"{task}={TASK_VERSIONS[task]}", *(f"{name}={_version(name)}" for name in libraries)])


def of_python() -> str:
    """What computes the answers of a class of the operator's: this Python, streamer, and every package that is
    installed, since nobody knows which of them the class uses."""
    packages = sorted(
        {
            found.name.removesuffix(".dist-info").removesuffix(".egg-info")
            for folder in sys.path
            if folder.endswith("-packages")
            for found in Path(folder).glob("*.*-info")
        }
    )
    return " ".join([f"python={sys.version.split()[0]}", f"streamer={__version__}", *packages])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
