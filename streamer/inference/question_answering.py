"""question-answering: the part of a text that answers the event's question, by a model that marks its ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import tokenizers
import torch
from transformers import AutoModelForQuestionAnswering

from streamer.inference.family import Asked, Numbers, groups
from streamer.inference.model import Encoded, Input
from streamer.inference.numbers import float32_lists
from streamer.inference.options import QuestionAnsweringOptions
from streamer.inference.torch_model import TorchModel


class QuestionParams(msgspec.Struct, frozen=True):
    """What is asked of the text."""

    question: Annotated[str, msgspec.Meta(min_length=1, description="a string that is not empty")]


class Window(msgspec.Struct, frozen=True, gc=False):
    """One row's tokens of the text: from `first` to `last`, each with its characters. `cls` is the place of the token
    that stands for no answer, -1 for none."""

    first: int
    last: int
    offsets: list[tuple[int, int]]
    cls: int


class Span(msgspec.Struct, frozen=True, gc=False):
    """An answer; `start` and `end` are characters of the text."""

    answer: str
    score: float
    start: int
    end: int


class QuestionAnswering(TorchModel):
    """Output `{"answer", "score", "start", "end"}` of the best answer, then `"answers"` when `top_k` > 1.

    A span's score is the product of the probabilities of its ends among the tokens of its window, as in transformers'
    pipeline up to version 4.
    """

    tolerance = 0.03  # of a probability
    params = QuestionParams
    offsets = True
    token_rows = True
    windows = True
    windowed_side = 1

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """The task's own."""
        self._options = self.options_as(QuestionAnsweringOptions, options)

    def network_class(self) -> Any:
        """Fails to load where the weights have no such head."""
        return AutoModelForQuestionAnswering

    def ask(self, text: str, pair: str | None, params: QuestionParams) -> Asked:
        """The question, then the text as it is: offsets are of its characters."""
        return Asked([(self.tokenizer.prepare(params.question), text)], text)

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """Questions about the known texts."""
        return [Input(text, None, {"question": "What happened?"}) for text in texts]

    def details(self, asked: Asked, encodings: list[tokenizers.Encoding]) -> tuple[str, list[Window]]:
        """The text, and where its tokens stand in each row."""
        return asked.own, [self._window(encoding) for encoding in encodings]

    def _window(self, encoding: tokenizers.Encoding) -> Window:
        places = [place for place, side in enumerate(encoding.sequence_ids) if side == 1]
        ids = encoding.ids
        cls = ids.index(self.tokenizer.cls_id) if self.tokenizer.cls_id in ids else -1
        if not places:
            return Window(0, -1, [], cls)
        return Window(places[0], places[-1], encoding.offsets[places[0] : places[-1] + 1], cls)

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, length, 2): the logarithm of each token's probability to be the first and the last of the answer."""
        output = self.run(inputs, mask)
        logits = torch.stack([output.start_logits, output.end_logits], dim=-1).float()
        if mask is not None:
            logits = logits.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf)
        return logits.log_softmax(1)

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """The largest difference of a probability."""
        return float(np.abs(np.exp(numbers) - np.exp(reference)).max())

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """The best spans of all windows of each text."""
        encode = msgspec.json.Encoder().encode
        outputs = []
        for one, own in zip(batch, groups(batch, numbers), strict=True):
            text, windows = one.content.own
            spans = self._best(text, windows, own)
            output: dict[str, Any] = msgspec.structs.asdict(spans[0])
            if self._options.top_k > 1:
                output["answers"] = spans
            if one.rows > 1:
                output["windows"] = one.rows
            outputs.append(encode(output))
        return outputs

    def _best(self, text: str, windows: list[Window], numbers: Sequence[Numbers]) -> list[Span]:
        scores: dict[tuple[int, int], float] = {}
        nothing = 1.0
        for window, own in zip(windows, numbers, strict=True):
            powers, none = self._probabilities(window, own)
            nothing = min(nothing, none)
            for place, score in self._spans(powers):
                scores[place_of(window, place)] = max(score, scores.get(place_of(window, place), 0.0))
        if self._options.no_answer or not scores:
            scores[0, 0] = nothing if self._options.no_answer else 0.0
        best = sorted(scores.items(), key=lambda item: -item[1])[: self._options.top_k]
        (rounded,) = float32_lists(np.array([[score for _, score in best]], np.float32))
        return [_span(text, start, end, score) for ((start, end), _), score in zip(best, rounded, strict=True)]

    def _probabilities(self, window: Window, numbers: Numbers) -> tuple[Numbers, float]:
        """Of each of the text's tokens to be the first and the last; and of no answer. Tokens of the question have
        none, and their share is the others'."""
        places = list(range(window.first, window.last + 1))
        if window.cls >= 0:
            places.append(window.cls)
        if not places:
            return np.zeros((0, 2), np.float32), 0.0
        powers = np.exp(numbers[places] - numbers[places].max(axis=0))
        powers /= powers.sum(axis=0)
        nothing = float(powers[-1].prod()) if window.cls >= 0 else 0.0
        return powers[: window.last + 1 - window.first], nothing

    def _spans(self, powers: Numbers) -> Iterator[tuple[tuple[int, int], float]]:
        """The best spans of one window, by their first and last token."""
        count = len(powers)
        longest = min(self._options.max_answer_tokens, count)
        if not count:
            return
        products = np.zeros((longest, count), np.float32)  # by length - 1 and first token
        for more in range(longest):
            products[more, : count - more] = powers[: count - more, 0] * powers[more:, 1]
        flat = products.ravel()
        top = min(self._options.top_k, len(flat))
        for index in np.argpartition(-flat, top - 1)[:top].tolist():
            more, first = divmod(index, count)
            if first + more < count:
                yield (first, first + more), float(flat[index])


def place_of(window: Window, tokens: tuple[int, int]) -> tuple[int, int]:
    """The characters of a span of tokens."""
    return window.offsets[tokens[0]][0], window.offsets[tokens[1]][1]


def _span(text: str, start: int, end: int, score: float) -> Span:
    """Without the spaces that some tokenizers count to a token."""
    answer = text[start:end]
    start += len(answer) - len(answer.lstrip())
    return Span(answer.strip(), score, start, start + len(answer.strip()))
