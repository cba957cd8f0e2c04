"""`python:MODULE:CLASS`: the operator's own class as a model, written to `streamer.model.Model`."""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.extras import advice
from streamer.inference.backends.plain import answers_of
from streamer.inference.model import CPU_BATCHING, Encoded, NonFinite, unknown_param
from streamer.inference.models.class_identity import ClassIdentity, identify
from streamer.inference.models.fresh_modules import import_fresh
from streamer.inference.models.identity import of_python
from streamer.inference.models.reads import Reads
from streamer.inference.spec import WorkerSpec
from streamer.model import PROBE, Input, VectorEncoding

_CHARACTERS_A_TOKEN = 4


class CustomModel:
    """Adapts a class of the contract. Lengths are guessed from characters, so that batches still hold similar texts."""

    batching = CPU_BATCHING

    def __init__(self, spec: WorkerSpec, module: str, name: str) -> None:
        reference, began_ns = f"python:{module}:{name}", time.time_ns()
        with Reads() as reads:
            kind = _import(module, name)
            predictor = kind(dict(spec.options))
        self._adopt(spec, predictor, f"{module}:{name}", identify(reference, kind, predictor, reads, began_ns))

    def _adopt(self, spec: WorkerSpec, predictor: Any, name: str, identity: ClassIdentity) -> None:
        self._predictor = predictor
        self._check = getattr(self._predictor, "check_params", None)
        self._task = spec.task
        self._encoding: VectorEncoding = getattr(self._predictor, "encoding", "float")
        if self._encoding not in get_args(VectorEncoding):
            raise ModelError(f'python:{name}: its encoding is {self._encoding!r}; it may be "float" or "base64"')
        self.card = ModelCard(
            name=name,
            revision=identity.revision,
            task=spec.task,
            dtype="custom",
            backend="python",
            cacheable=bool(getattr(self._predictor, "cacheable", True)),
            implementation=of_python(),
            shared=identity.shared,
        )
        self.probe = _encode(Input(str(getattr(self._predictor, "probe", PROBE)), None, {}))

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

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite | DataFailure]:
        """Ask the class; raises whatever it raises, and ModelError for what is no list of as many outputs. What one of
        the outputs has wrong is the failure of that one's text alone."""
        outputs = self._predictor.predict([encoded.content for encoded in batch])
        if isinstance(outputs, dict | str) or not hasattr(outputs, "__len__"):
            raise ModelError(f"predict gave {type(outputs).__name__}, not a list with one dict for each input")
        if len(outputs) != len(batch):
            raise ModelError(f"predict gave {len(outputs)} outputs for {len(batch)} inputs")
        answers = answers_of(outputs, self._encoding)
        if batch[0] is self.probe and isinstance(failure := answers[0], DataFailure):
            raise ModelError(failure.message)
        return answers

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
        except MemoryError:  # which may not be this event's fault
            raise
        except Exception as error:
            name = type(error).__name__
            return DataFailure(Code.VALIDATE_PARAMS, f"the model refuses these params ({name})", name)
        return DataFailure(Code.VALIDATE_PARAMS, str(wrong)) if wrong else None


def _import(module: str, name: str) -> type[Any]:
    """The class, also from the directory that the program was started in, behind all that is installed."""
    import_fresh()
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError as error:
        why = advice(error) or error
        raise ModelError(f"python:{module}:{name}: module {module} can't be imported: {why}") from error
    except AttributeError:
        raise ModelError(f"python:{module}:{name}: module {module} has no class {name}") from None
    if not (inspect.isclass(kind) and callable(getattr(kind, "predict", None))) or inspect.isabstract(kind):
        raise ModelError(f"python:{module}:{name} must be a class with a method predict(inputs)")
    return kind


def _encode(given: Input) -> Encoded:
    characters = len(given.text) + len(given.text_pair or "")
    return Encoded(length=1 + characters // _CHARACTERS_A_TOKEN, tokens=0, truncated=False, content=given)
