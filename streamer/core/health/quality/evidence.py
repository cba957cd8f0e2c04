"""What is left of a text once its answer was held to its label: labels and numbers, never the text.

It is all that sums need, so that a label that is taken back later can be counted otherwise.
"""

from __future__ import annotations

import msgspec

from streamer.core.health.quality.overlap import Overlap
from streamer.core.health.quality.spans import Spans


class One(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The one label that is right, the one that the model gave, and its score; -1 where it gave none."""

    truth: str
    predicted: str
    score: float


class Several(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """All labels that are right, all that the model gave, and the score of each that it knows."""

    truth: list[str]
    predicted: list[str]
    scores: dict[str, float]


class Number(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The right number, and the model's."""

    truth: float
    predicted: float


class Entities(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The sums of one text."""

    sums: Spans


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The sums of one answer to a question."""

    sums: Overlap


class Text(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The sums of one longer text."""

    sums: Overlap


class Likelihood(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What a language model says of a text; None where it is too short."""

    log_likelihood: float | None
    tokens: int


Evidence = One | Several | Number | Entities | Answer | Text | Likelihood
