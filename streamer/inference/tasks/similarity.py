"""similarity: how near a text is to its pair or to each of its candidates, by their vectors: the cosine, or what the
model's files name.

rerank (`rerank.py`) asks a cross-encoder the same of the same events.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.errors import Code, DataFailure
from streamer.inference.backends.numbers import float32_lists
from streamer.inference.model import Encoded
from streamer.inference.tasks.family import Asked, Numbers, groups
from streamer.inference.tasks.options import SimilarityOptions
from streamer.inference.tasks.params import Texts
from streamer.inference.tasks.pooling import ComparingModel
from streamer.model import Input


class CandidateParams(msgspec.Struct, frozen=True):
    """What the text is compared with, where it is more than the event's `text_pair`."""

    candidates: Texts | None = None


class Similarity(ComparingModel):
    """Output `{"score"}` for a pair, `{"scores", "ranking"}` for candidates."""

    takes_pair = True
    params = CandidateParams
    _options: SimilarityOptions

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Options over files over defaults."""
        super().read_options(path, options)
        literal, name = self._options.candidate_prompt, self._options.candidate_prompt_name
        self._candidate_prompt = self.files.prompt(literal, name, "candidate_prompt")
        self.leave_out(self._prompt, self._candidate_prompt)

    def ask(self, text: str, pair: str | None, params: CandidateParams) -> Asked | DataFailure:
        """The text and all that it is compared with, a row each."""
        compared = compared_with(pair, params, self._spec.task)
        if isinstance(compared, DataFailure):
            return compared
        others = [self._candidate_prompt + other for other in compared]
        return Asked([self._prompt + text, *others], own=pair is None)

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """Each text with the next."""
        return check_pairs(texts)

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """As the model's `similarity` compares them."""
        return score_outputs(batch, [self.compared(vectors) for vectors in groups(batch, numbers)])


def compared_with(pair: str | None, params: CandidateParams, task: str) -> list[str] | DataFailure:
    """The event's pair or its candidates, of which it must have one."""
    if (pair is None) == (params.candidates is None):
        message = f"task {task} needs either text_pair or the param 'candidates', and not both"
        return DataFailure(Code.VALIDATE_PARAMS, message)
    return params.candidates if params.candidates is not None else [pair or ""]


def check_pairs(texts: Sequence[str]) -> list[Input]:
    """The known texts, each with the next for its pair."""
    return [Input(one, other, {}) for one, other in pairwise((*texts, texts[0]))]


def score_outputs(batch: Sequence[Encoded], scores: Sequence[Numbers]) -> list[bytes]:
    """The score of a pair, or those of candidates in their order and the candidates' indexes, best first."""
    encode = msgspec.json.Encoder().encode
    outputs = []
    for one, own in zip(batch, scores, strict=True):
        (numbers,) = float32_lists(own[None])
        if one.content.own:  # the event has candidates
            ranking = np.argsort(-own, kind="stable").tolist()
            outputs.append(encode({"scores": numbers, "ranking": ranking}))
        else:
            outputs.append(encode({"score": numbers[0]}))
    return outputs
