"""What an exception of a forward pass says: whether memory, the device or the batch is at fault, and where."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

# Of torch on CUDA and on a CPU (Linux, Windows), and of C++ below OpenVINO.
_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "bad allocation")

_BROKEN: Final = ("CUDA error", "CUBLAS_STATUS")


class Trouble(Enum):
    """What is at fault, as far as the exception tells."""

    MEMORY = auto()  # too much for the device at once
    DEVICE = auto()  # the device's context is broken for good
    RAISED = auto()  # anything else: the batch, or the model


@dataclass(frozen=True, slots=True)
class Failure:
    """A pass that raised, without the exception itself, whose traceback holds tensors."""

    trouble: Trouble
    exception: str
    place: str
    words: str = ""
    """Of an error of ours: other exceptions may quote a text."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory, or the machine's, did not do."""
    return trouble_of(error, quotes=False, alone=False) is Trouble.MEMORY


def trouble_of(error: BaseException, *, quotes: bool, alone: bool) -> Trouble:
    """By type; and by the words of a message, unless it may `quote` a text. Then they are no more than a reason to try
    a batch in parts."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return Trouble.MEMORY
    if isinstance(error, RuntimeError):
        message = str(error) if not (quotes and alone) else ""
        if any(words in message for words in _OUT_OF_MEMORY):
            return Trouble.MEMORY
        if name == "AcceleratorError" or (not quotes and any(words in message for words in _BROKEN)):
            return Trouble.DEVICE
    return Trouble.RAISED


def place_of(error: BaseException) -> str:
    """File, line and function of the innermost frame: where to look, without the message, which may quote the text."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}"
