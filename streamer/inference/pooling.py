"""Rows of token vectors to one vector each, as a model's sentence-transformers files say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import AutoModel

from streamer.errors import ModelError
from streamer.inference.family import Numbers
from streamer.inference.options import Pooling
from streamer.inference.safety import read_json
from streamer.inference.tokenizer import Row
from streamer.inference.torch_model import TorchModel


class PooledModel(TorchModel):
    """The bare encoder of families that work on vectors."""

    tolerance = 0.002  # 1 minus the cosine to fp32

    def read_pooling(self, path: Path, pooling: Pooling | None, normalize: bool | None) -> None:
        """What is asked for goes before what the files say."""
        declared_pooling, declared_normalize = declared(path)
        self._pooling = pooling or declared_pooling
        self._normalize = declared_normalize if normalize is None else normalize

    def network_class(self) -> Any:
        """The bare encoder."""
        return AutoModel

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, dimensions)."""
        hidden: torch.Tensor = self.run(inputs, mask).last_hidden_state
        pooled = self._pool(hidden, mask)
        return torch.nn.functional.normalize(pooled, dim=-1) if self._normalize else pooled

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if self._pooling == "cls":
            if mask is None or not self.tokenizer.pads_left:
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

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """1 minus the cosine."""
        return float(1 - unit(numbers) @ unit(reference))


class ComparingModel(PooledModel):
    """Families that compare a text's vector with those of others: candidates, labels."""

    tolerance = 0.05  # of a cosine

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """Twice the angle between them: two vectors, each turned by so much, have no other cosine than within that."""
        chord = float(np.linalg.norm(unit(numbers) - unit(reference)))  # the cosine of so small an angle is too coarse
        return 4 * float(np.arcsin(min(1.0, chord / 2)))

    def compute(self, rows: Sequence[Row]) -> list[Numbers]:
        """Texts that many computations share, such as labels, are computed once."""
        distinct: dict[tuple[int, ...], Row] = {}
        keys = [tuple(row.ids) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            distinct.setdefault(key, row)
        vectors = dict(zip(distinct, super().compute(list(distinct.values())), strict=True))
        return [vectors[key] for key in keys]


def cosines(vectors: Sequence[Numbers]) -> Numbers:
    """Of the first vector to each of the others, within -1 and 1."""
    units = unit(np.stack(vectors))
    similar: Numbers = np.clip(units[1:] @ units[0], -1, 1)
    return similar


def unit(vectors: Numbers) -> Numbers:
    """Vectors of length 1 along the last axis; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Numbers = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def declared(path: Path) -> tuple[Pooling, bool]:
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
