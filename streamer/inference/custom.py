"""`python:MODULE:CLASS`: the operator's own class as a model. It needs no torch; what it imports is its own affair.

The class is written to `Predictor`: `__init__(self, options)` and `predict(self, inputs)`, one JSON object an input,
in order. It may also have

- `version: str`        names what it computes in results and cache keys; else a digest of its source file does;
- `cacheable: bool`     False when equal inputs may have different outputs (default True);
- `probe: str`          a text that it always answers (default a plain English sentence);
- `check_params(params: dict) -> str | None`   says what is wrong with an event's params, without quoting values, or
  raises; without it every param is refused.

`predict` may raise for a text that it can't serve: the batch is halved until that text stands alone.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.model import (
    CPU_BATCHING,
    NON_FINITE,
    Encoded,
    Input,
    NonFinite,
    unknown_param,
)
from streamer.inference.spec import WorkerSpec

_PROBE = "The quick brown fox jumps over the lazy dog."
_CHARACTERS_A_TOKEN = 4


class Predictor(Protocol):
    """What the operator writes; see the module for what is optional."""

    def __init__(self, options: dict[str, Any]) -> None: ...

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """One JSON object an input, in order."""
        ...


class CustomModel:
    """Adapts a `Predictor`. Lengths are guessed from characters, so that batches still hold similar texts."""

    batching = CPU_BATCHING

    def __init__(self, spec: WorkerSpec, module: str, name: str) -> None:
        kind = _import(module, name)
        self._predictor = kind(dict(spec.options))
        self._check = getattr(self._predictor, "check_params", None)
        self._task = spec.task
        version = getattr(self._predictor, "version", None)
        self.card = ModelCard(
            name=f"{module}:{name}",
            revision=version if isinstance(version, str) and version else _source_digest(kind),
            task=spec.task,
            dtype="custom",
            backend="python",
            cacheable=bool(getattr(self._predictor, "cacheable", True)),
        )
        self.probe = _encode(Input(str(getattr(self._predictor, "probe", _PROBE)), None, {}))

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Check params; the texts go to the class as they are."""
        encoded: list[Encoded | DataFailure] = []
        for index, text in enumerate(texts):
            own = params[index] if params is not None else None
            failure = self._refuse(own)
            pair = pairs[index] if pairs is not None else None
            encoded.append(failure if failure is not None else _encode(Input(text, pair, own or {})))
        return encoded

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """Ask the class; raises whatever it raises, and TypeError for what is not a JSON object."""
        outputs = self._predictor.predict([encoded.content for encoded in batch])
        if len(outputs) != len(batch):
            raise ValueError(f"predict gave {len(outputs)} outputs for {len(batch)} inputs")
        return [_answer(output) for output in outputs]

    def free_memory(self) -> None:
        """Collect what the class let go."""
        gc.collect()

    def _refuse(self, params: dict[str, Any] | None) -> DataFailure | None:
        if not params:
            return None
        if self._check is None:
            return unknown_param(params, frozenset(), self._task)
        try:
            wrong = self._check(params)
        except Exception as error:
            name = type(error).__name__
            return DataFailure(Code.VALIDATE_PARAMS, f"the model refuses these params ({name})", name)
        return DataFailure(Code.VALIDATE_PARAMS, str(wrong)) if wrong else None


def _import(module: str, name: str) -> type[Any]:
    """The class, also from the directory that the program was started in, behind all that is installed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ModelError(f"python:{module}:{name}: module {module} can't be imported: {error}") from error
    except AttributeError:
        raise ModelError(f"python:{module}:{name}: module {module} has no class {name}") from None
    if not (inspect.isclass(kind) and callable(getattr(kind, "predict", None))):
        raise ModelError(f"python:{module}:{name} must be a class with a method predict(inputs)")
    return kind


def _source_digest(kind: type[Any]) -> str:
    source = inspect.getsourcefile(kind)
    if source is None:
        raise ModelError(f"{kind.__module__}:{kind.__qualname__} has no source file: give it a version attribute")
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()


def _encode(given: Input) -> Encoded:
    characters = len(given.text) + len(given.text_pair or "")
    return Encoded(length=1 + characters // _CHARACTERS_A_TOKEN, tokens=0, truncated=False, content=given)


def _answer(output: Any) -> Answer | NonFinite:
    if not isinstance(output, dict):
        raise TypeError("predict must give a dict an input")
    plain = _plain(output)
    return Answer(msgspec.json.encode(plain)) if _finite(plain) else NON_FINITE


def _plain(value: Any) -> Any:
    """Arrays and their scalars into Python's own; JSON's encoder would write their NaN as null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list) else True
