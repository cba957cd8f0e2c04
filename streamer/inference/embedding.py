"""embedding: a text to a vector, pooled and normalised as the model's sentence-transformers files say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.errors import DataFailure
from streamer.inference.family import Asked, Numbers, merged
from streamer.inference.model import Encoded
from streamer.inference.numbers import float32_lists
from streamer.inference.pooling import PooledModel, Pooling


class EmbeddingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None does as the model's files say: mean without normalising where they say nothing. `prompt` goes before
    every text (some models are trained with `query: ` and the like)."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    prompt: str = ""


class Embedding(PooledModel):
    """Output `{"vector": […], "dimensions": n}`."""

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Options over files over defaults."""
        chosen = self.options_as(EmbeddingOptions, options)
        self.read_pooling(path, chosen.pooling, chosen.normalize)
        self._prompt = chosen.prompt

    def ask(self, text: str, pair: str | None, params: dict[str, Any]) -> Asked | DataFailure:
        """With the prompt before the text."""
        return super().ask(self._prompt + text, pair, params)

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """One JSON object a text; of a text in windows the mean of their vectors, by their tokens."""
        vectors = np.stack(merged(batch, numbers))
        dimensions = vectors.shape[1]
        encode = msgspec.json.Encoder().encode
        return [encode({"vector": vector, "dimensions": dimensions}) for vector in float32_lists(vectors)]
