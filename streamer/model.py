"""A model that is a class of your own, served as `python:MODULE:CLASS`: an LSTM, a rule, a call to another library.

    from streamer.model import Input, Model

    class Shout(Model):
        files = []

        def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
            return [{"text": one.text.upper()} for one in inputs]

`docs/own-model.md` shows a complete one, with its test. Nothing here imports torch; what a class imports is up
to it. A class that does not inherit from `Model` but has the same members is served just as well.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["PROBE", "Input", "Model", "VectorEncoding"]

VectorEncoding = Literal["float", "base64"]
"""How a vector is written: as a list of numbers, or as a string with their bytes in base64."""

PROBE: Final = "The quick brown fox jumps over the lazy dog."


@dataclass(frozen=True, slots=True)
class Input:
    """What one event asks: its text, and its `text_pair` and `params` where it has them. `params` have passed
    `check_params`."""

    text: str
    text_pair: str | None
    params: dict[str, Any]


class Model(ABC):
    """The contract between streamer and a class of yours. Only `predict` has to be written.

    Each worker process makes one instance and calls it from one thread at a time. The class is imported from the
    working directory or from what is installed.
    """

    files: list[str | os.PathLike[str]] | tuple[str | os.PathLike[str], ...] | None = None
    """Files and folders that decide the answers, relative to the class's own file; globs too, and `[]` where it reads
    none. They are part of the revision that results carry. None says that nobody knows: then answers are never shared
    through Redis. `__init__` may set it from the options."""

    version: str | int | None = None
    """A part of the revision beside the class's code and files, for what neither of them shows."""

    cacheable: bool = True
    """False where equal inputs may have different outputs: then each is computed."""

    probe: str = PROBE
    """A text that the model always answers. It is sent at every start, and again when texts begin to fail: a failing
    probe halts the pipeline, since then the model is broken and not the texts."""

    encoding: VectorEncoding = "float"
    """"base64" writes an output's `vector`, a row of floats (an array, a tensor or a list), as a string: the bytes of
    its numbers, little endian. `dimensions` and `dtype` are then added to the output: float16 and int8 for arrays of
    these, else float32. `__init__` may set it from the options."""

    def __init__(self, options: dict[str, Any]) -> None:  # noqa: B027
        """Load what `predict` needs. `options` is the table `[pipelines.NAME.options]`.

        What is raised here ends the start with its message. `load_s` bounds the time.
        """

    @abstractmethod
    def predict(self, inputs: list[Input]) -> Sequence[dict[str, Any]]:
        """One output for each input, in order. An output is what JSON can say: a dict of strings, numbers, booleans,
        None, lists and dicts; arrays and their numbers are written as what they hold.

        The inputs are a batch of texts of similar lengths; an answer must not depend on which others share it.
        `lease_s` bounds the time of one call. Raise any exception for a text that can't be answered: the batch is
        halved until that text stands alone, and its dead letter (`infer.exception`) names the exception's class and
        place, but not its message, which may quote the text. An output with NaN or infinity fails its own text alone
        (`infer.nan`).
        """

    def check_params(self, params: dict[str, Any]) -> str | None:
        """Say what is wrong with an event's `params`, without quoting values, or return None. It is asked before
        `predict`, and what it says is the message of the dead letter (`validate.params`). By default every param is
        refused."""
        return f"param {min(params)[:64]!r} is unknown: the model takes none"
