"""embedding: a text to a vector, pooled and normalised as the model's sentence-transformers files say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.errors import DataFailure
from streamer.inference.backends.numbers import FLOAT16_DIGITS, base64_strings, float32_lists
from streamer.inference.model import Encoded
from streamer.inference.tasks.family import Asked, Numbers, merged
from streamer.inference.tasks.measuring import of_vectors
from streamer.inference.tasks.options import EmbeddingOptions
from streamer.inference.tasks.pooling import PooledModel, unit

_INT8_MAX = 127
_FLOAT16_MAX = float(np.finfo(np.float16).max)


class Embedding(PooledModel):
    """Output `{"vector": […], "dimensions": n}`, of int8 with `"scale"`; in base64 with `"dtype"`."""

    _options: EmbeddingOptions

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Options over files over defaults."""
        super().read_options(path, options)
        self._cut = self._options.dimensions or self.files.dimensions

    def ask(self, text: str, pair: str | None, params: Any) -> Asked | DataFailure:
        """With the prompt before the text."""
        return super().ask(self._prompt + text, pair, params)

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """One JSON object a text; of a text in windows the mean of their vectors, by their tokens."""
        vectors = np.stack(merged(batch, numbers))
        if self._chain.normalizes and len(numbers) > len(batch):
            vectors = unit(vectors)
        vectors = vectors[:, : self._cut]
        if self._chain.normalizes and self._options.dimensions:  # not where the files alone cut: encode doesn't
            vectors = unit(vectors)
        encode = msgspec.json.Encoder().encode
        outputs = []
        for one, output in zip(batch, self._as_json(vectors), strict=True):
            if one.rows > 1:
                output["windows"] = one.rows
            outputs.append(encode(output))
        return outputs

    def measures(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Of the vectors' directions, so that it does not matter whether they are normalised by now."""
        return of_vectors([one.unknown for one in batch], np.stack(merged(batch, numbers))[:, : self._cut])

    def _as_json(self, vectors: Numbers) -> list[dict[str, Any]]:
        rows, scales = self._in_precision(vectors)
        rest: dict[str, Any] = {"dimensions": rows.shape[1]}
        written: Sequence[Any]
        if self._options.encoding == "base64":
            written = base64_strings(rows.astype(self._options.precision, copy=False))  # windows have means of float64
            rest["dtype"] = self._options.precision
        elif rows.dtype == np.int8:
            written = rows.tolist()
        else:
            digits = (FLOAT16_DIGITS,) if rows.dtype == np.float16 else ()
            written = float32_lists(rows, *digits)
        outputs = [{"vector": vector, **rest} for vector in written]
        if scales is not None:
            for output, (scale,) in zip(outputs, float32_lists(scales), strict=True):
                if scale != 1.0:
                    output["scale"] = scale
        return outputs

    def _in_precision(self, vectors: Numbers) -> tuple[npt.NDArray[Any], Numbers | None]:
        """The numbers as they are written, and what each row of them is to be multiplied by. A float16 needs no scale,
        but where a number is beyond the largest of them."""
        precision = self._options.precision
        if precision == "float32":
            return vectors, None
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        if precision == "int8":
            scales = np.maximum(largest, np.finfo(np.float32).tiny) / _INT8_MAX
            return np.rint(vectors / scales).astype(np.int8), scales
        if largest.max() <= _FLOAT16_MAX:
            return vectors.astype(np.float16), None
        scales = np.exp2(np.ceil(np.log2(np.maximum(largest / _FLOAT16_MAX, 1)))).astype(np.float32)
        return (vectors / scales).astype(np.float16), scales
