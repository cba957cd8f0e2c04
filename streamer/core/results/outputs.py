"""What each task's output must look like, for answers that come from where others may write.

The types say what `schemas/outputs/` says, bound by bound, and no more fields than those.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from streamer.core.stored import Parse
from streamer.core.vectors import numbers_of

_T = TypeVar("_T")
Some = Annotated[list[_T], Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Windows = Annotated[int, Meta(ge=2)] | UnsetType


class Label(Struct, forbid_unknown_fields=True):
    label: str
    score: float


class TextClassification(Struct, forbid_unknown_fields=True):
    label: str
    score: float
    scores: Some[Label] | UnsetType = UNSET
    windows: Windows = UNSET


class Entity(Struct, forbid_unknown_fields=True):
    label: str
    score: Share
    start: Count
    end: Count
    text: str


class TokenClassification(Struct, forbid_unknown_fields=True):
    entities: list[Entity]
    windows: Windows = UNSET


class Embedding(Struct, forbid_unknown_fields=True):
    vector: Some[float]
    dimensions: Annotated[int, Meta(ge=1)]
    scale: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    windows: Windows = UNSET


class Base64Embedding(Struct, forbid_unknown_fields=True):
    vector: Annotated[str, Meta(min_length=1, extra_json_schema={"contentEncoding": "base64"})]
    dimensions: Annotated[int, Meta(ge=1)]
    dtype: Literal["float32", "float16", "int8"]
    scale: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    windows: Windows = UNSET

    def __post_init__(self) -> None:
        """As many numbers as it says, and finite, which the digits of a list are anyway."""
        found = numbers_of(self.vector, self.dtype)
        if len(found) != self.dimensions or not all(map(math.isfinite, found)):
            raise ValueError("it is no vector of this length")


class PairScore(Struct, forbid_unknown_fields=True):
    score: float


class Ranking(Struct, forbid_unknown_fields=True):
    scores: Some[float]
    ranking: Some[Count]


class ZeroShotClassification(Struct, forbid_unknown_fields=True):
    labels: Some[str]
    scores: Some[float]


class Span(Struct, forbid_unknown_fields=True):
    answer: str
    score: Share
    start: Count
    end: Count


class QuestionAnswering(Struct, forbid_unknown_fields=True):
    answer: str
    score: Share
    start: Count
    end: Count
    answers: Some[Span] | UnsetType = UNSET
    windows: Windows = UNSET


class Candidate(Struct, forbid_unknown_fields=True):
    token: str
    token_id: Count
    score: Share


class FillMask(Struct, forbid_unknown_fields=True):
    candidates: Some[Some[Candidate]]


class Generated(Struct, forbid_unknown_fields=True):
    text: str
    source_tokens: Count
    output_tokens: Count


class TextGeneration(Struct, forbid_unknown_fields=True):
    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: Count
    completion_tokens: Count


class ScoredToken(Struct, forbid_unknown_fields=True):
    token: str
    log_likelihood: float


class Scoring(Struct, forbid_unknown_fields=True):
    log_likelihood: float
    perplexity: Annotated[float, Meta(gt=0)]
    tokens: Count
    per_token: list[ScoredToken] | UnsetType = UNSET


class ScoringUndefined(Struct, forbid_unknown_fields=True):
    log_likelihood: float | None
    perplexity: None
    tokens: Count
    reason: Literal["no token is predicted", "the perplexity is larger than any number"]
    per_token: list[ScoredToken] | UnsetType = UNSET


OUTPUTS: Final[dict[str, tuple[type[Struct], ...]]] = {
    "text-classification": (TextClassification,),
    "token-classification": (TokenClassification,),
    "embedding": (Embedding, Base64Embedding),
    "similarity": (PairScore, Ranking),
    "rerank": (PairScore, Ranking),
    "zero-shot-classification": (ZeroShotClassification,),
    "question-answering": (QuestionAnswering,),
    "fill-mask": (FillMask,),
    "summarization": (Generated,),
    "translation": (Generated,),
    "text2text-generation": (Generated,),
    "text-generation": (TextGeneration,),
    "scoring": (Scoring, ScoringUndefined),
}
"""By task, the one form of its output, or either of two."""


def parser_of(task: str) -> Parse:
    """Reads an output of `task` as its schema says; of a task without one any JSON object.

    It must also stand as a worker writes it, byte for byte: no field twice, no white space, no number written in
    another way. Raises what `Parse` says. 0.5 µs for a label, 25 for a vector of 384 numbers.
    """
    kinds: tuple[Any, ...] = OUTPUTS.get(task, (dict[str, Any],))
    first, *others = [msgspec.json.Decoder(kind).decode for kind in kinds]
    plain, write = msgspec.json.Decoder().decode, msgspec.json.encode

    def parse(output: bytes) -> object:
        try:
            first(output)
        except msgspec.ValidationError:
            if not others:
                raise
            others[0](output)
        value = plain(output)
        if write(value) != output:
            raise ValueError("it is not written as a worker writes it")
        return value

    return parse
