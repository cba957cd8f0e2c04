"""A model without a network: a vector for each token, and of a text their mean (sentence-transformers' StaticEmbedding,
model2vec)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tokenizers
import torch

from streamer.errors import ModelError
from streamer.inference.models.sentence_modules import read_weights
from streamer.inference.models.tokenizer import NO_LIMIT, Given, TextTokenizer
from streamer.inference.models.unknown_tokens import of_backend


class StaticEmbedding(torch.nn.Module):
    """Called like a network; what would be token vectors are the vectors of whole texts, 0 for one without tokens."""

    def __init__(self, path: Path, tokenizer: StaticTokenizer) -> None:
        """Raises `ModelError`, also where a token of `tokenizer` has no vector."""
        super().__init__()
        self.vectors = torch.nn.Parameter(_vectors(read_weights(path, "")), requires_grad=False)
        if tokenizer.largest_id >= len(self.vectors):
            raise ModelError(
                f"tokenizer.json of the model has the token {tokenizer.largest_id}, and model.safetensors vectors for "
                f"{len(self.vectors)}"
            )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> SimpleNamespace:
        """`last_hidden_state` (n, d)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        vectors = torch.nn.functional.embedding_bag(input_ids, self.vectors, per_sample_weights=weights, mode="sum")
        return SimpleNamespace(last_hidden_state=vectors)


class StaticTokenizer(TextTokenizer):
    """tokenizer.json by itself, without the special tokens that it may add. A text has no limit but that file's."""

    def __init__(self, path: Path) -> None:
        """Raises `ModelError`."""
        try:
            self._tokenizer = self._decoder = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as error:  # its own, without a class
            raise ModelError(f"tokenizer.json of the model can't be read: {error}") from None
        self.largest_id = max(self._tokenizer.get_vocab().values(), default=0)
        self.takes_type_ids = self._types_singles = False
        self.pads_left = False
        self.pad_id = 0
        self.mask_token = self.mask_id = self.cls_id = self._cut_side = self._known_tokens = None
        self.special_ids = frozenset()
        self.unknown = of_backend(self._tokenizer)
        self._truncation: dict[str, Any] | None = self._tokenizer.truncation
        self.max_tokens = self._truncation["max_length"] if self._truncation else NO_LIMIT
        self._cut_left = bool(self._truncation and self._truncation["direction"] == "left")
        self._tokenizer.no_padding()

    def _truncate(self, stride: int = 0, side: int | None = None, *, left: bool | None = None) -> None:
        if self._truncation is not None:
            self._tokenizer.enable_truncation(**self._truncation | {"stride": stride})

    def _encode(self, given: Sequence[Given], offsets: bool) -> list[tokenizers.Encoding]:
        encodings: list[tokenizers.Encoding] = self._tokenizer.encode_batch_fast(given, add_special_tokens=False)
        return encodings


def _vectors(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """(tokens, d) in fp32, from the names of either library; model2vec's may share rows and weigh tokens."""
    vectors = weights.get("embedding.weight", weights.get("embeddings"))
    if vectors is None or vectors.ndim != 2:
        raise ModelError("model.safetensors of the model has no embedding.weight: it is not a StaticEmbedding")
    if "embedding.weight" in weights:
        return vectors.float()
    if "mapping" in weights:
        vectors = vectors[weights["mapping"].long()]
    return vectors.float() * weights["weights"].float().unsqueeze(1) if "weights" in weights else vectors.float()
