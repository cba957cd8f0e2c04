"""question-answering: the part of a text that answers the event's question, by a model that marks its ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import tokenizers
import torch
from transformers import AutoModelForQuestionAnswering

from streamer.errors import DataFailure, ModelError
from streamer.inference.backends.numbers import float32_lists
from streamer.inference.backends.torch_model import TorchModel
from streamer.inference.model import Encoded
from streamer.inference.tasks.family import Asked, Numbers, groups
from streamer.inference.tasks.options import QuestionAnsweringOptions
from streamer.inference.tasks.spans import visible, widen_to_words, word
from streamer.model import Input


class QuestionParams(msgspec.Struct, frozen=True):
    """What is asked of the text."""

    question: Annotated[str, msgspec.Meta(min_length=1, description="a string that is not empty")]


class ContextWindow(msgspec.Struct, frozen=True, gc=False):
    """One row's tokens of the text, from `first` on: the number of each one's word, and its characters. `cls` is the
    place of the token that stands for no answer, -1 for none."""

    first: int
    words: list[int | None]
    offsets: list[tuple[int, int]]
    cls: int


class Asking(msgspec.Struct, frozen=True, gc=False):
    """The text, its windows, and what was cut off of its last word."""

    text: str
    windows: list[ContextWindow]
    beyond: list[tuple[int, int]]


class Span(msgspec.Struct, frozen=True, gc=False):
    """An answer; `start` and `end` are characters of the text."""

    answer: str
    score: float
    start: int
    end: int


class QuestionAnswering(TorchModel):
    """Output `{"answer", "score", "start", "end"}` of the best answer, then `"answers"` when `top_k` > 1.

    A span's score is the product of the probabilities of its ends among the tokens of its window, as in transformers'
    pipeline up to version 4. As there, an answer is of whole words, those of the tokenizer, and of several answers that
    differ in nothing but capitals the best one counts (that pipeline, from 4.50 on, adds up as many of their scores as
    it has ranked).
    """

    tolerance = 0.03  # of a probability
    params = QuestionParams
    offsets = True
    token_rows = True

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Models whose tokenizer pads on the left were trained with the text before the question."""
        self._options = self.options_as(QuestionAnsweringOptions, options)
        self._side = 0 if self.tokenizer.pads_left else 1
        self.tokenizer.cut_only(self._side)
        (pair,) = self.tokenizer.encode([("a", "a")])
        if self._options.no_answer and (isinstance(pair, DataFailure) or self._cls(pair) < 0):
            raise ModelError(
                "option no_answer: the tokenizer of the model puts no cls_token into a row, which would stand for no"
                " answer; leave the option out"
            )

    def network_class(self) -> Any:
        """Fails to load where the weights have no such head."""
        return AutoModelForQuestionAnswering

    def ask(self, text: str, pair: str | None, params: QuestionParams) -> Asked:
        """The question and the text, as they are: offsets are of the text's characters."""
        return Asked([(params.question, text) if self._side else (text, params.question)], text)

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """Questions about the known texts."""
        return [Input(text, None, {"question": "What happened?"}) for text in texts]

    def details(self, asked: Asked, encodings: list[tokenizers.Encoding]) -> Asking:
        """The text, and where its words stand in each row."""
        windows = [self._window(encoding) for encoding in encodings]
        overflowing = encodings[0].overflowing if len(windows) == 1 and windows[0].words else []
        return Asking(asked.own, windows, list(self._beyond(windows[0], overflowing)))

    def _window(self, encoding: tokenizers.Encoding) -> ContextWindow:
        places = [place for place, side in enumerate(encoding.sequence_ids) if side == self._side]
        own = slice(places[0], places[-1] + 1) if places else slice(0)
        return ContextWindow(own.start or 0, encoding.word_ids[own], encoding.offsets[own], self._cls(encoding))

    def _beyond(self, window: ContextWindow, overflowing: list[tokenizers.Encoding]) -> Iterator[tuple[int, int]]:
        for encoding in overflowing:
            rest = self._window(encoding)
            own = [at for number, at in zip(rest.words, rest.offsets, strict=True) if number == window.words[-1]]
            yield from own
            if len(own) < len(rest.words):
                return

    def _cls(self, encoding: tokenizers.Encoding) -> int:
        special = zip(encoding.ids, encoding.sequence_ids, strict=True)
        found = (at for at, (token, side) in enumerate(special) if side is None and token == self.tokenizer.cls_id)
        return next(found, -1)

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
            spans = self._best(one.content.own, own)
            output: dict[str, Any] = msgspec.structs.asdict(spans[0])
            if self._options.top_k > 1:
                output["answers"] = spans
            if one.rows > 1:
                output["windows"] = one.rows
            outputs.append(encode(output))
        return outputs

    def _best(self, asking: Asking, numbers: Sequence[Numbers]) -> list[Span]:
        best: dict[str, tuple[float, int, int]] = {}  # by the answer's letters
        nothing = 1.0
        for window, own in zip(asking.windows, numbers, strict=True):
            powers, none = self._probabilities(window, own)
            nothing = min(nothing, none)
            for letters, found in self._answers(asking, window, powers).items():
                best[letters] = max(found, best.get(letters, found), key=itemgetter(0))
        if self._options.no_answer or not best:
            best[""] = (nothing if self._options.no_answer else 0.0, 0, 0)
        ranked = sorted(best.values(), key=itemgetter(0), reverse=True)[: self._options.top_k]
        (rounded,) = float32_lists(np.array([[score for score, *_ in ranked]], np.float32))
        return [
            Span(asking.text[start:end], score, start, end)
            for (_, start, end), score in zip(ranked, rounded, strict=True)
        ]

    def _probabilities(self, window: ContextWindow, numbers: Numbers) -> tuple[Numbers, float]:
        """Of each of the text's tokens to be the first and the last; and of no answer. Tokens of the question have
        none, and their share is the others'."""
        count = len(window.words)
        places = list(range(window.first, window.first + count))
        if window.cls >= 0:
            places.append(window.cls)
        if not places:
            return np.zeros((0, 2), np.float32), 0.0
        powers = np.exp(numbers[places] - numbers[places].max(axis=0))
        powers /= powers.sum(axis=0)
        nothing = float(powers[-1].prod()) if window.cls >= 0 else 0.0
        return powers[:count], nothing

    def _answers(self, asking: Asking, window: ContextWindow, powers: Numbers) -> dict[str, tuple[float, int, int]]:
        """The best answers of one window: by their letters in lower case the score, start and end."""
        found: dict[str, tuple[float, int, int]] = {}
        count, top_k = len(powers), self._options.top_k
        longest = min(self._options.max_answer_tokens, count)
        products = np.zeros((longest, count), np.float32)  # by length - 1 and first token
        for more in range(longest):
            products[more, : count - more] = powers[: count - more, 0] * powers[more:, 1]
        # Several spans of tokens may be one of words: where so many give too few answers, all are ranked.
        for most in (2 * top_k + 10, products.size) if count else ():
            for index, score in _ranked(products.ravel(), most):
                more, first = divmod(index, count)
                if first + more < count:
                    start, end = _aligned(asking, window, first)[0], _aligned(asking, window, first + more)[1]
                    start, end = visible(asking.text, start, end)
                    if start < end:
                        found.setdefault(asking.text[start:end].lower(), (score, start, end))
                if len(found) == top_k:
                    return found
        return found


def _ranked(scores: Numbers, most: int) -> Iterator[tuple[int, float]]:
    """Place and score of the best, best first."""
    most = min(most, len(scores))
    best = np.sort(np.argpartition(-scores, most - 1)[:most])
    best = best[np.argsort(-scores[best], kind="stable")]
    return zip(best.tolist(), scores[best].tolist(), strict=True)


def _aligned(asking: Asking, window: ContextWindow, place: int) -> tuple[int, int]:
    """The characters of the word that a token is part of: the tokenizer's own, else what stands between spaces."""
    number, count = window.words[place], len(window.words)
    first, last = place, place + 1
    while first > 0 and window.words[first - 1] == number:
        first -= 1
    while last < count and window.words[last] == number:
        last += 1
    tokens = window.offsets[first:last]
    if first == 0 or last == count:  # other rows may have the rest of it
        for other in asking.windows:
            tokens = tokens + [at for own, at in zip(other.words, other.offsets, strict=True) if own == number]
    if last == count:
        tokens = tokens + asking.beyond
    found = word(asking.text, tokens)
    if found is None:
        start, end = visible(asking.text, *window.offsets[place])
        if start < end:
            return widen_to_words(asking.text, start, end)
        # A token without letters stands where it is, one that the tokenizer made up behind the one before it.
        start = max(start, window.offsets[place - 1][1] if place else 0)
        return start, start
    return found
