"""embedding: a text to a vector, pooled and normalised as the model's sentence-transformers files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from transformers import AutoModel

from streamer.errors import ModelError
from streamer.inference.numbers import float32_lists
from streamer.inference.safety import read_json
from streamer.inference.torch_model import Rows, TorchModel

Pooling = Literal["mean", "cls", "max"]


class EmbeddingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None does as the model's files say: mean without normalising where they say nothing. `prompt` goes before
    every text (some models are trained with `query: ` and the like)."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    prompt: str = ""


class Embedding(TorchModel):
    """Output `{"vector": […], "dimensions": n}`."""

    tolerance = 0.002  # 1 minus the cosine to fp32
    takes_pair = False

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Options over files over defaults."""
        chosen = self.options_as(EmbeddingOptions, options)
        pooling, normalize = _declared(path)
        self._pooling = chosen.pooling or pooling
        self._normalize = normalize if chosen.normalize is None else chosen.normalize
        self._prompt = chosen.prompt

    def network_class(self) -> Any:
        """The bare encoder."""
        return AutoModel

    def prepare(self, text: str) -> str:
        """With the prompt before it."""
        return super().prepare(self._prompt + text)

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, dimensions)."""
        hidden: torch.Tensor = self.network(**inputs, attention_mask=mask).last_hidden_state
        pooled = self._pool(hidden, mask)
        return torch.nn.functional.normalize(pooled, dim=-1) if self._normalize else pooled

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if self._pooling == "cls":
            if mask is None or not self._pads_left:
                return hidden[:, 0].float()
            first = mask.argmax(dim=1)
            return hidden[torch.arange(len(hidden), device=hidden.device), first].float()
        if self._pooling == "max":
            if mask is not None:
                hidden = hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf)
            return hidden.amax(dim=1).float()
        if mask is None:
            return hidden.mean(dim=1, dtype=torch.float32)
        weights = (mask / mask.sum(dim=1, keepdim=True)).unsqueeze(1)
        return torch.bmm(weights, hidden.float()).squeeze(1)

    def distance(self, rows: Rows, reference: Rows) -> float:
        """1 minus the least cosine."""
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
        return float(1 - ((rows * reference).sum(axis=1) / norms).min())

    def outputs(self, rows: Rows) -> list[bytes]:
        """One JSON object a row."""
        dimensions = rows.shape[1]
        encode = msgspec.json.Encoder().encode
        return [encode({"vector": vector, "dimensions": dimensions}) for vector in float32_lists(rows)]


def _declared(path: Path) -> tuple[Pooling, bool]:
    """Pooling and normalisation of a sentence-transformers model; (mean, False) for any other."""
    if not (path / "modules.json").is_file():
        return "mean", False
    modules: list[dict[str, Any]] = msgspec.json.decode((path / "modules.json").read_bytes())
    pooling: Pooling = "mean"
    normalize = False
    for module in modules:
        match str(module.get("type", "")).rpartition(".")[2]:
            case "Transformer":
                pass
            case "Pooling":
                pooling = _pooling(read_json(path / str(module.get("path", "")) / "config.json"))
            case "Normalize":
                normalize = True
            case other:
                raise ModelError(f"modules.json asks for {other or 'a module without type'}, which is not supported")
    return pooling, normalize


def _pooling(config: dict[str, Any]) -> Pooling:
    on = {key.removeprefix("pooling_mode_") for key, value in config.items() if value is True}
    named = config.get("pooling_mode")
    if isinstance(named, str):
        on.add(named)
    modes: dict[str, Pooling] = {
        "mean_tokens": "mean",
        "cls_token": "cls",
        "max_tokens": "max",
        "mean": "mean",
        "cls": "cls",
        "max": "max",
    }
    chosen = {modes[name] for name in on if name in modes}
    unknown = sorted(name for name in on - modes.keys() if name.endswith(("tokens", "token")) or name == named)
    if unknown or len(chosen) != 1:
        raise ModelError(f"pooling {', '.join(unknown or sorted(on)) or 'none'} of the model is not supported")
    return chosen.pop()
