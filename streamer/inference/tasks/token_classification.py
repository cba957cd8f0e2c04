"""token-classification: the entities of a text, by the rules of transformers' pipeline of that name, held to words.

No entity begins or ends with a space, and none is a space alone, as the pipeline's are where a tokenizer counts spaces
to its tokens; `spans.continues_word` and `labels.tags` say where else it is not followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
import torch
from transformers import AutoModelForTokenClassification

from streamer.inference.backends.numbers import float32_lists
from streamer.inference.backends.torch_model import TorchModel
from streamer.inference.model import Encoded
from streamer.inference.tasks.family import Asked, Numbers, groups
from streamer.inference.tasks.labels import class_names, entities, tags
from streamer.inference.tasks.options import TokenClassificationOptions
from streamer.inference.tasks.spans import continues_word, visible


class KeptTokens(msgspec.Struct, frozen=True, gc=False):
    """A text's tokens, special ones left out. `kept[i]` are the places of its i-th row's tokens that count: where
    windows overlap, each token counts once."""

    text: str
    kept: list[list[int]]
    spans: list[tuple[int, int]]
    """The characters of each token, without spaces around them; an empty span has none."""
    inner: list[bool]
    """Whether the token goes on with the word of the one before it."""


class Entity(msgspec.Struct, frozen=True, gc=False):
    """`start` and `end` are characters of the text, `text` what stands there."""

    label: str
    score: float
    start: int
    end: int
    text: str


class TokenClassification(TorchModel):
    """Output `{"entities": [{"label", "score", "start", "end", "text"}, …]}`."""

    tolerance = 0.03  # of a probability
    offsets = True
    token_rows = True

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Labels are the config's."""
        chosen = self.options_as(TokenClassificationOptions, options)
        self._aggregation = chosen.aggregation
        self._ignored = frozenset(chosen.ignore)
        self._labels = class_names(self.config)
        self._tags = tags(self._labels)
        # Of the tokens that two windows share, the first half counts where it stands last, the rest where it stands
        # first: each token has the most text around it.
        self._skipped_first = self.tokenizer.overlap // 2
        self._skipped_last = self.tokenizer.overlap - self._skipped_first

    def network_class(self) -> Any:
        """Fails to load where the weights have no such head."""
        return AutoModelForTokenClassification

    def ask(self, text: str, pair: str | None, params: Any) -> Asked:
        """The text as it is: offsets are of its characters."""
        return Asked([text], text)

    def details(self, asked: Asked, encodings: list[tokenizers.Encoding]) -> KeptTokens:
        """Where each token stands."""
        text: str = asked.own
        rows: list[list[int]] = []
        spans: list[tuple[int, int]] = []
        words: list[int | None] = []
        for number, encoding in enumerate(encodings):
            kept = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
            last = len(kept) - (self._skipped_last if number < len(encodings) - 1 else 0)
            kept = kept[self._skipped_first if number else 0 : last]
            rows.append(kept)
            offsets, pieces = encoding.offsets, encoding.tokens
            spans += [visible(text, *offsets[place], pieces[place]) for place in kept]
            if self.tokenizer.marks_subwords:
                word_ids = encoding.word_ids
                words += [word_ids[place] for place in kept]
        # A tokenizer that marks subwords splits words itself.
        inner = [place > 0 and word == words[place - 1] for place, word in enumerate(words)] or continues_word(
            text, spans
        )
        return KeptTokens(text, rows, spans, inner)

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, length, labels): probabilities."""
        logits: torch.Tensor = self.run(inputs, mask).logits
        return logits.float().softmax(-1)

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """The largest difference of a score."""
        return float(np.abs(numbers - reference).max())

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Entities in the order of the text."""
        encode = msgspec.json.Encoder().encode
        outputs = []
        for one, own in zip(batch, groups(batch, numbers), strict=True):
            tokens: KeptTokens = one.content.own
            scores = np.concatenate([row[kept] for row, kept in zip(own, tokens.kept, strict=True)])
            output: dict[str, Any] = {"entities": self._entities(tokens, scores)}
            if one.rows > 1:
                output["windows"] = one.rows
            outputs.append(encode(output))
        return outputs

    def _entities(self, tokens: KeptTokens, scores: Numbers) -> list[Entity]:
        if not len(scores):
            return []
        words = [(place, place) for place in range(len(scores))]
        if self._aggregation in ("first", "average", "max"):
            words = list(_words(tokens.inner))
            scores = np.stack([self._word_scores(scores[first : last + 1]) for first, last in words])
        best = scores.argmax(axis=1).tolist()
        of_best = scores[np.arange(len(best)), best]
        if self._aggregation == "none":
            found = [(self._labels[index], place, place) for place, index in enumerate(best)]
        else:
            own = [self._tags[index] for index in best]
            found = [(own[first].name, first, last) for first, last in entities(own)]
        kept: list[tuple[str, int, int, float]] = []
        for label, first, last in found:
            if label in self._ignored:
                continue
            spans = [span for span in tokens.spans[words[first][0] : words[last][1] + 1] if span[0] < span[1]]
            if spans:
                start, end = min(span[0] for span in spans), max(span[1] for span in spans)
                kept.append((label, start, end, of_best[first : last + 1].mean()))
        (rounded,) = float32_lists(np.array([[score for *_, score in kept]], np.float32))
        return [
            Entity(label, score, start, end, tokens.text[start:end])
            for (label, start, end, _), score in zip(kept, rounded, strict=True)
        ]

    def _word_scores(self, scores: Numbers) -> Numbers:
        of_word: Numbers
        match self._aggregation:
            case "first":
                of_word = scores[0]
            case "max":
                of_word = scores[scores.max(axis=1).argmax()]
            case _:
                of_word = scores.mean(axis=0)
        return of_word


def _words(inner: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """First and last token of each word."""
    first = 0
    for place in range(1, len(inner) + 1):
        if place == len(inner) or not inner[place]:
            yield first, place - 1
            first = place
