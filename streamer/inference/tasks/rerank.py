"""rerank: how well each candidate answers a text, by a cross-encoder that reads both together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from streamer.errors import DataFailure, ModelError
from streamer.inference.backends.torch_model import TorchModel
from streamer.inference.model import Encoded
from streamer.inference.models.safety import read_json
from streamer.inference.models.sentence_files import CONFIG_FILE, MODULES_FILE, read_sentence_files, refuse_template
from streamer.inference.models.sentence_modules import activation
from streamer.inference.models.transformer_file import Layout
from streamer.inference.tasks.family import Asked, Numbers, groups
from streamer.inference.tasks.options import RerankOptions
from streamer.inference.tasks.similarity import CandidateParams, check_pairs, compared_with, score_outputs
from streamer.model import Input

_HEAD = "ForSequenceClassification"


class Rerank(TorchModel):
    """Output as of similarity: `{"score"}` for a pair, `{"scores", "ranking"}` for candidates."""

    tolerance = 0.03  # of a score, of its size where that is over 1
    takes_pair = True
    params = CandidateParams

    def layout(self, path: Path) -> Layout:
        """As the files of sentence-transformers' CrossEncoder say."""
        self.files = read_sentence_files(path, "CrossEncoder")
        refuse_template(path, "remove it from the directory to serve texts as they are")
        kinds = [module.kind for module in self.files.modules]
        if (path / MODULES_FILE).is_file() and kinds != ["Transformer"]:
            raise ModelError(
                f"{MODULES_FILE} of the model names {', '.join(kinds)}: task rerank serves only a Transformer"
            )
        return self.files.layout

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Refuses models that give more than one number."""
        chosen = self.options_as(RerankOptions, options)
        if self.config.num_labels != 1:
            other = next((name for name in self.config.architectures or () if not name.endswith(_HEAD)), None)
            if other:  # of a language model the number of labels is nobody's word
                raise ModelError(
                    f"{self._spec.model} can't serve rerank: config.json's architectures name {other}, and the task "
                    f"needs one that ends in {_HEAD}"
                )
            raise ModelError(f"task rerank needs a model with one output, not {self.config.num_labels}")
        names = {"sigmoid": "torch.nn.Sigmoid", "none": "torch.nn.Identity", None: self.files.activation}
        named = names[chosen.activation]
        if named is not None:
            self._activation = activation(named, f"{CONFIG_FILE} of the model: activation_fn")
        else:
            self._activation = activation(*_noted(read_json(path / self.files.layout.folder / "config.json")))
        self._prompt = self.files.prompt(chosen.prompt, chosen.prompt_name)

    def network_class(self) -> Any:
        """Fails to load where the weights have no classification head."""
        return AutoModelForSequenceClassification

    def ask(self, text: str, pair: str | None, params: CandidateParams) -> Asked | DataFailure:
        """The text with each candidate, a row each."""
        compared = compared_with(pair, params, self._spec.task)
        if isinstance(compared, DataFailure):
            return compared
        prompted = self._prompt + text
        return Asked([(prompted, other) for other in compared], own=pair is None)

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """Each text with the next."""
        return check_pairs(texts)

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, 1): scores."""
        logits: torch.Tensor = self.run(inputs, mask).logits.float()
        scores: torch.Tensor = self._activation(logits)
        return scores

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """The difference of the score, by its size where that is over 1."""
        return float((np.abs(numbers - reference) / np.maximum(1, np.abs(reference))).max())

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Scores as they are."""
        return score_outputs(batch, [np.concatenate(own) for own in groups(batch, numbers)])


def _noted(config: dict[str, Any]) -> tuple[str, str]:
    """The class that sentence-transformers' cross-encoders note in config.json, and its place there; Sigmoid where they
    note none."""
    noted = config.get("sentence_transformers")
    name, field = config.get("sbert_ce_default_activation_function"), "sbert_ce_default_activation_function"
    if isinstance(noted, dict) and "activation_fn" in noted:
        name, field = noted["activation_fn"], "sentence_transformers.activation_fn"
    return "torch.nn.Sigmoid" if name is None else str(name), f"config.json of the model: {field}"
