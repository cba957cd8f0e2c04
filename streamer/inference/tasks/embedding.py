"""embedding: a text to a vector, pooled and normalised as the model's sentence-transformers files say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.errors import DataFailure
from streamer.inference.backends.numbers import float32_lists
from streamer.inference.model import Encoded
from streamer.inference.tasks.family import Asked, Numbers, merged
from streamer.inference.tasks.measuring import of_vectors
from streamer.inference.tasks.options import EmbeddingOptions
from streamer.inference.tasks.pooling import PooledModel, unit

_INT8_MAX = 127


class Embedding(PooledModel):
    """Output `{"vector": […], "dimensions": n}`, of int8 with `"scale"`."""

    _options: EmbeddingOptions

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Options over files over defaults."""
        super().read_options(path, options)
        self._cut = self._options.dimensions or self.files.dimensions
        self._int8 = self._options.precision == "int8"

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
        dimensions = vectors.shape[1]
        if not self._int8:
            return [{"vector": vector, "dimensions": dimensions} for vector in float32_lists(vectors)]
        scales = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / _INT8_MAX
        whole = np.rint(vectors / scales).astype(np.int8).tolist()
        return [
            {"vector": vector, "dimensions": dimensions, "scale": scale}
            for vector, (scale,) in zip(whole, float32_lists(scales), strict=True)
        ]
