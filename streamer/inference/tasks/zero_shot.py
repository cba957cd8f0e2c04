"""zero-shot-classification: a text to labels that the event names, by a model of inference or by vectors.

A model trained for natural language inference reads the text with a sentence about each label and says how much the
one entails the other; the pairs of many texts share forward passes. An embedding model compares the vectors of both.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.backends.numbers import float32_lists
from streamer.inference.backends.torch_model import TorchModel
from streamer.inference.model import Encoded
from streamer.inference.models.reference import Located
from streamer.inference.models.safety import read_json
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.family import Asked, Numbers, TaskFamily, groups
from streamer.inference.tasks.labels import class_names
from streamer.inference.tasks.measuring import of_scores
from streamer.inference.tasks.options import MultiLabel, Template, TextOptions, VectorOptions, ZeroShotOptions
from streamer.inference.tasks.params import Texts
from streamer.inference.tasks.pooling import ComparingModel
from streamer.inference.worker.sizes import too_large
from streamer.model import Input

_HOLE = "{}"
_NLI_TEMPLATE = "This example is {}."


class ZeroShotParams(msgspec.Struct, frozen=True):
    """What an event may say; what it leaves out is the pipeline's option."""

    candidate_labels: Texts | None = None
    hypothesis_template: Template | None = None
    multi_label: MultiLabel | None = None


class Question(msgspec.Struct, frozen=True, gc=False):
    """What the answer needs beside the numbers."""

    labels: list[str]
    multi_label: bool


class _ZeroShot(TaskFamily):
    """Reading what is asked, and writing the answer: output `{"labels", "scores"}`, best first."""

    params = ZeroShotParams
    _options: ZeroShotOptions

    def ask(self, text: str, pair: str | None, params: ZeroShotParams) -> Asked | DataFailure:
        """Options stand in for what the event leaves out."""
        labels = params.candidate_labels or self._options.candidate_labels
        if labels is None:
            message = f"task {self._spec.task} needs the param 'candidate_labels', or the option of that name"
            return DataFailure(Code.VALIDATE_PARAMS, message)
        template = params.hypothesis_template or self._options.hypothesis_template
        written = len(template or "") * len(labels) + sum(map(len, labels))  # before they are
        if (failure := too_large(rows=len(labels), characters=written)) is not None:
            return failure
        multi_label = self._options.multi_label if params.multi_label is None else params.multi_label
        return self.ask_about(text, template, Question(labels, multi_label))

    @abstractmethod
    def ask_about(self, text: str, template: str | None, question: Question) -> Asked:
        """The rows of a text and its labels."""

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """Two labels for each text."""
        return [Input(text, None, {"candidate_labels": ["travel", "a complaint"]}) for text in texts]

    def answer(self, question: Question, scores: Numbers) -> bytes:
        """Labels and scores, best first."""
        order = np.argsort(-scores, kind="stable")
        (ranked,) = float32_lists(scores[order][None])
        return msgspec.json.encode({"labels": [question.labels[index] for index in order], "scores": ranked})


class ZeroShotInference(_ZeroShot, TorchModel):
    """A row is the text with the sentence about one label, its numbers the logits of contradiction and entailment."""

    tolerance = 0.05  # of a probability

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Refuses models without a class whose name begins with `entail`."""
        self._options = self.options_as(ZeroShotOptions, options)
        for option in VectorOptions.__struct_fields__:
            if option not in TextOptions.__struct_fields__ and option in options:
                raise ModelError(f'option {option} is of embedding models, and method "inference" is not by vectors')
        self._classes = _opposites(self.config)
        self.tokenizer.cut_only(0)  # as the pipeline: a label's sentence stands whole

    def network_class(self) -> Any:
        """Fails to load where the weights have no classification head."""
        return AutoModelForSequenceClassification

    def ask_about(self, text: str, template: str | None, question: Question) -> Asked:
        """A pair for each label."""
        template = template or _NLI_TEMPLATE
        return Asked([(text, template.replace(_HOLE, label)) for label in question.labels], question)

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, 2)."""
        logits: torch.Tensor = self.run(inputs, mask).logits.float()
        return logits[:, self._classes]

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """Half the largest difference of a logit: a softmax moves by no more than that."""
        return float(np.abs(numbers - reference).max()) / 2

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Softmax over the labels, or of each label by itself."""
        return [
            self.answer(one.content.own, _scores(one.content.own, own))
            for one, own in zip(batch, groups(batch, numbers), strict=True)
        ]

    def measures(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Of questions with more than one label."""
        found = super().measures(batch, numbers)
        for index, (one, own) in enumerate(zip(batch, groups(batch, numbers), strict=True)):
            if len(own) > 1:
                scores = _scores(one.content.own, own)[None]
                (found[index],) = of_scores([one.unknown], scores, shares=not one.content.own.multi_label)
        return found


class ZeroShotEmbedding(_ZeroShot, ComparingModel):
    """The scores are cosines, or what the model's files compare by; a label's vector is computed once for all texts of
    a forward batch."""

    _options: ZeroShotOptions

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Options over files over defaults; prompts are of texts and labels."""
        super().read_options(path, options)
        self.leave_out(self._prompt, self._prompt)

    def ask_about(self, text: str, template: str | None, question: Question) -> Asked:
        """The text, then each label."""
        template = template or _HOLE
        labels = [self._prompt + template.replace(_HOLE, label) for label in question.labels]
        return Asked([self._prompt + text, *labels], question)

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """The text compared with each label."""
        compared = map(self.compared, groups(batch, numbers))
        return [self.answer(one.content.own, scores) for one, scores in zip(batch, compared, strict=True)]


def load(spec: WorkerSpec, located: Located, worker: int) -> ZeroShotInference | ZeroShotEmbedding:
    """The method that the options name; else inference where the model's config names such a head."""
    method = spec.options.get("method")
    if method is None:
        named = str(read_json(located.path / "config.json").get("architectures"))
        method = "inference" if "ForSequenceClassification" in named else "embedding"
    return (ZeroShotEmbedding if method == "embedding" else ZeroShotInference)(spec, located, worker)


def _scores(question: Question, numbers: Sequence[Numbers]) -> Numbers:
    logits = np.stack(numbers)
    by_itself = question.multi_label or len(question.labels) == 1
    return _softmax(logits)[:, 1] if by_itself else _softmax(logits[:, 1])


def _opposites(config: Any) -> list[int]:
    """The classes of contradiction and entailment, by the names that config.json has for them.

    As transformers' pipeline: entailment is the first class whose name begins so; its opposite, where none is called
    contradiction, is the first class, or the last where entailment is the first. Raises `ModelError`.
    """
    numbers = {name.lower(): int(number) for name, number in (config.label2id or {}).items()}
    entails = next((number for name, number in numbers.items() if name.startswith("entail")), None)
    count = len(class_names(config))
    if entails is None or count < 2:
        raise ModelError(
            "config.json of the model: label2id has no label that begins with entail; zero-shot-classification needs a"
            ' model trained for natural language inference, or option method = "embedding"'
        )
    opposite = next((number for name, number in numbers.items() if name.startswith("contradict")), None)
    if opposite is None:
        opposite = count - 1 if entails == 0 else 0
    for number in (entails, opposite):
        if not 0 <= number < count:
            raise ModelError(f"config.json of the model: label2id names class {number}, and there are {count}")
    if not str(config.id2label[entails]).lower().startswith("entail"):
        raise ModelError(
            f"config.json of the model: class {entails} is entailment by label2id and {config.id2label[entails]} by"
            " id2label; make them agree"
        )
    return [opposite, entails]


def _softmax(logits: Numbers) -> Numbers:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Numbers = powers / powers.sum(axis=-1, keepdims=True)
    return scores
