"""rerank: how well each candidate answers a text, by a cross-encoder that reads both together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from streamer.errors import DataFailure, ModelError
from streamer.inference.family import Asked, Numbers, groups
from streamer.inference.model import Encoded, Input
from streamer.inference.options import RerankOptions
from streamer.inference.safety import read_json
from streamer.inference.similarity import CandidateParams, check_pairs, compared_with, score_outputs
from streamer.inference.torch_model import TorchModel


class Rerank(TorchModel):
    """Output as of similarity: `{"score"}` for a pair, `{"scores", "ranking"}` for candidates."""

    tolerance = 0.03  # of a score, of its size where that is over 1
    takes_pair = True
    params = CandidateParams

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Refuses models that give more than one number."""
        chosen = self.options_as(RerankOptions, options)
        if self.config.num_labels != 1:
            raise ModelError(f"task rerank needs a model with one output, not {self.config.num_labels}")
        self._sigmoid = (chosen.activation or _declared(path)) == "sigmoid"

    def network_class(self) -> Any:
        """Fails to load where the weights have no classification head."""
        return AutoModelForSequenceClassification

    def ask(self, text: str, pair: str | None, params: CandidateParams) -> Asked | DataFailure:
        """The text with each candidate, a row each."""
        compared = compared_with(pair, params, self._spec.task)
        if isinstance(compared, DataFailure):
            return compared
        prepare = self.tokenizer.prepare
        return Asked([(prepare(text), prepare(other)) for other in compared], own=pair is None)

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """Each text with the next."""
        return check_pairs(texts)

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, 1): scores."""
        logits: torch.Tensor = self.run(inputs, mask).logits.float()
        return logits.sigmoid() if self._sigmoid else logits

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """The difference of the score, by its size where that is over 1."""
        return float((np.abs(numbers - reference) / np.maximum(1, np.abs(reference))).max())

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Scores as they are."""
        return score_outputs(batch, [np.concatenate(own) for own in groups(batch, numbers)])


def _declared(path: Path) -> Literal["sigmoid", "none"]:
    """What sentence-transformers' cross-encoders note in config.json, by the class's name; sigmoid is its default."""
    config = read_json(path / "config.json")
    noted = config.get("sentence_transformers")
    name = noted.get("activation_fn") if isinstance(noted, dict) else None
    name = name or config.get("sbert_ce_default_activation_function") or "Sigmoid"
    match str(name).rpartition(".")[2]:
        case "Sigmoid":
            return "sigmoid"
        case "Identity":
            return "none"
        case other:
            raise ModelError(f"config.json asks for the activation {other}, which is not supported: set `activation`")
