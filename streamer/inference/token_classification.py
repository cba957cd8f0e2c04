"""token-classification: the entities of a text, by the same rules as transformers' pipeline of that name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
import torch
from transformers import AutoModelForTokenClassification

from streamer.inference.family import Asked, Numbers, groups
from streamer.inference.model import Encoded
from streamer.inference.numbers import float32_lists
from streamer.inference.options import TokenClassificationOptions
from streamer.inference.torch_model import TorchModel


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """A text's tokens, special ones left out. `kept[i]` are the places of its i-th row's tokens that count: where
    windows overlap, each token counts once."""

    text: str
    kept: list[list[int]]
    starts: list[int]
    ends: list[int]
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
    windows = True

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Labels are the config's."""
        chosen = self.options_as(TokenClassificationOptions, options)
        self._aggregation = chosen.aggregation
        self._ignored = frozenset(chosen.ignore)
        count = int(self.config.num_labels)
        self._labels = [str(self.config.id2label.get(index, f"LABEL_{index}")) for index in range(count)]
        self._marks_subwords = self.tokenizer.marks_subwords
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

    def details(self, asked: Asked, encodings: list[tokenizers.Encoding]) -> Tokens:
        """Where each token stands."""
        tokens = Tokens(asked.own, [], [], [], [])
        for number, encoding in enumerate(encodings):
            kept = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
            last = len(kept) - (self._skipped_last if number < len(encodings) - 1 else 0)
            kept = kept[self._skipped_first if number else 0 : last]
            tokens.kept.append(kept)
            offsets, pieces, ids = encoding.offsets, encoding.tokens, encoding.ids
            for place in kept:
                start, end = offsets[place]
                tokens.starts.append(start)
                tokens.ends.append(end)
                unknown = ids[place] == self.tokenizer.unknown_id
                tokens.inner.append(not unknown and self._is_inner(asked.own, start, end, pieces[place]))
        return tokens

    def _is_inner(self, text: str, start: int, end: int, piece: str) -> bool:
        if self._marks_subwords:
            return len(piece) != end - start
        return start > 0 and " " not in text[start - 1 : start + 1]

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
            tokens: Tokens = one.content.own
            scores = np.concatenate([row[kept] for row, kept in zip(own, tokens.kept, strict=True)])
            output: dict[str, Any] = {"entities": self._entities(tokens, scores)}
            if one.rows > 1:
                output["windows"] = one.rows
            outputs.append(encode(output))
        return outputs

    def _entities(self, tokens: Tokens, scores: Numbers) -> list[Entity]:
        if not len(scores):
            return []
        spans = [(place, place) for place in range(len(scores))]
        if self._aggregation in ("first", "average", "max"):
            spans = list(_words(tokens.inner))
            scores = np.stack([self._word_scores(scores[first : last + 1]) for first, last in spans])
        best = scores.argmax(axis=1)
        labels = [self._labels[index] for index in best.tolist()]
        of_best = scores[np.arange(len(best)), best]
        joined: list[tuple[str, int, int]] = [(label, place, place) for place, label in enumerate(labels)]
        if self._aggregation != "none":
            joined = list(_joined(labels))
        kept = [(label, first, last) for label, first, last in joined if label not in self._ignored]
        means = np.array([of_best[first : last + 1].mean() for _, first, last in kept], np.float32)
        (rounded,) = float32_lists(means[None])
        entities = []
        for (label, first, last), score in zip(kept, rounded, strict=True):
            start, end = tokens.starts[spans[first][0]], tokens.ends[spans[last][1]]
            entities.append(Entity(label, score, start, end, tokens.text[start:end]))
        return entities

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


def _joined(labels: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Label without B- or I-, first and last place of each entity."""
    first = 0
    for place in range(1, len(labels) + 1):
        if place == len(labels) or labels[place].startswith("B-") or _tag(labels[place]) != _tag(labels[place - 1]):
            yield labels[first].split("-", 1)[-1], first, place - 1
            first = place


def _tag(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label
