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
    "text-classification": 2,
    "token-classification": 2,
    "embedding": 2,
    "similarity": 2,
    "rerank": 2,
    "zero-shot-classification": 2,
    "question-answering": 2,
    "fill-mask": 2,
    "summarization": 2,
    "translation": 2,
    "text2text-generation": 2,
    "text-generation": 2,
    "scoring": 2,
}
"""Raise a task's number with every change after which one of its answers may be another: or caches that outlive the
release go on answering as before it."""

_LIBRARIES: Final = ("torch", "transformers", "tokenizers")


def of_task(task: str, backend: str) -> str:
    """What computes the answers of a task of ours on `backend`."""
    libraries = (*_LIBRARIES, *(["openvino"] if backend == "openvino" else []))
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
