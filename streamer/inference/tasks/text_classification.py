"""text-classification: a text, or a text and its pair, to labels with scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from streamer.errors import ModelError
from streamer.inference.backends.numbers import float32_lists
from streamer.inference.backends.torch_model import TorchModel
from streamer.inference.model import Encoded
from streamer.inference.tasks.family import Numbers, merged
from streamer.inference.tasks.labels import class_names
from streamer.inference.tasks.measuring import of_scores
from streamer.inference.tasks.options import ClassificationOptions


class TextClassification(TorchModel):
    """Output `{"label", "score"}` of the best label, then `"scores"` (best first) when `top_k` > 1."""

    tolerance = 0.03  # of a probability
    takes_pair = True

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """The activation is the config's problem type, or the option's."""
        chosen = self.options_as(ClassificationOptions, options)
        self._labels = class_names(self.config)
        count = len(self._labels)
        self._top_k = min(chosen.top_k, count)
        problem = self.config.problem_type
        multi_label = chosen.multi_label
        if count == 1 and multi_label is False and problem != "regression":
            raise ModelError(
                "option multi_label = false: config.json of the model has one class, whose share of 1 is always 1;"
                " leave the option out for its sigmoid"
            )
        if multi_label is None:
            multi_label = problem == "multi_label_classification" or (count == 1 and problem != "regression")
        self._sigmoid = multi_label
        self._softmax = not multi_label and problem != "regression"

    def network_class(self) -> Any:
        """Fails to load where the weights have no classification head."""
        return AutoModelForSequenceClassification

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, labels): probabilities, or the bare numbers of a regression."""
        logits: torch.Tensor = self.run(inputs, mask).logits.float()
        if self._softmax:
            return logits.softmax(-1)
        return logits.sigmoid() if self._sigmoid else logits

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """The largest difference of a score."""
        return float(np.abs(numbers - reference).max())

    def measures(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Of scores that are probabilities."""
        if len(self._labels) < 2 or not (self._softmax or self._sigmoid):
            return super().measures(batch, numbers)
        return of_scores([one.unknown for one in batch], np.stack(merged(batch, numbers)), shares=self._softmax)

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Sorted and rounded in one go for all; of a text in windows the mean scores, by their tokens."""
        rows = np.stack(merged(batch, numbers))
        order = np.argsort(-rows, axis=1, kind="stable")[:, : self._top_k]
        scores = float32_lists(np.take_along_axis(rows, order, axis=1))
        labels = self._labels
        encode = msgspec.json.Encoder().encode
        outputs = []
        for one, indexes, row in zip(batch, order.tolist(), scores, strict=True):
            ranked = [{"label": labels[i], "score": score} for i, score in zip(indexes, row, strict=True)]
            output: dict[str, Any] = dict(ranked[0])
            if self._top_k > 1:
                output["scores"] = ranked
            if one.rows > 1:
                output["windows"] = one.rows
            outputs.append(encode(output))
        return outputs
