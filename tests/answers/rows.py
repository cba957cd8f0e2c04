"""A row of the table: a model directory, a task, and what must come of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from streamer.errors import DataFailure
from tests.answers import references
from tests.answers.building import READS, Files
from tests.answers.references import Answers
from tests.answers.texts import Event, asked, compared, labelled, masked, paired, singles

TOLERANCE: Final = 1e-4
ENCODER_TASKS: Final = frozenset(
    {
        "text-classification",
        "token-classification",
        "embedding",
        "similarity",
        "rerank",
        "zero-shot-classification",
        "question-answering",
        "fill-mask",
    }
)


@dataclass(frozen=True)
class Row:
    """`refused` are the words, as patterns, that the message of a refusal must hold: without any, the answers must be
    those of `answers`. With `may_refuse` it is served rightly or refused in those words."""

    files: Files
    task: str
    answers: Callable[[Path], Answers] | None = None
    events: Sequence[Event] = ()
    options: dict[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    may_refuse: bool = False
    variant: str = ""
    openvino: bool = True
    """Whether OpenVINO is tried with it, where it is an encoder."""

    @property
    def name(self) -> str:
        """Of the test."""
        return "-".join(filter(None, (self.files.name, self.task, self.variant)))


def classified(files: Files, limit: int = READS, activation: str = "softmax", **fields: Any) -> Row:
    """text-classification of texts and pairs, all labels."""
    return Row(
        files,
        "text-classification",
        lambda path: references.text_classification(path, limit, activation),
        **{"events": [*singles(), *paired()], "options": {"top_k": 99}, **fields},
    )


def tagged(files: Files, limit: int = READS, strategy: str = "simple", **fields: Any) -> Row:
    """token-classification."""
    return Row(
        files,
        "token-classification",
        lambda path: references.token_classification(path, limit, strategy),
        **{"events": singles(), "options": {"aggregation": strategy}, **fields},
    )


def embedded(files: Files, limit: int = READS, **fields: Any) -> Row:
    """embedding, by the mean."""
    return Row(files, "embedding", lambda path: references.embedding(path, limit), **{"events": singles(), **fields})


def similar(files: Files, limit: int = READS, **fields: Any) -> Row:
    """similarity of pairs and candidates."""
    return Row(files, "similarity", lambda path: references.similarity(path, limit), **{"events": compared(), **fields})


def reranked(files: Files, limit: int = READS, **fields: Any) -> Row:
    """rerank of pairs and candidates."""
    return Row(files, "rerank", lambda path: references.rerank(path, limit), **{"events": compared(), **fields})


def entailed(files: Files, limit: int = READS, **fields: Any) -> Row:
    """zero-shot-classification by inference."""
    return Row(
        files,
        "zero-shot-classification",
        lambda path: references.zero_shot_inference(path, limit),
        **{"events": labelled(), "variant": "inference", **fields},
    )


def likened(files: Files, limit: int = READS, **fields: Any) -> Row:
    """zero-shot-classification by vectors."""
    return Row(
        files,
        "zero-shot-classification",
        lambda path: references.zero_shot_embedding(path, limit),
        **{"events": labelled(), "options": {"method": "embedding"}, "variant": "embedding", **fields},
    )


def questioned(files: Files, limit: int = READS, **fields: Any) -> Row:
    """question-answering."""
    return Row(
        files,
        "question-answering",
        lambda path: references.question_answering(path, limit),
        **{"events": asked(), **fields},
    )


def filled(files: Files, mask: str = "[MASK]", limit: int = READS, **fields: Any) -> Row:
    """fill-mask."""
    return Row(files, "fill-mask", lambda path: references.fill_mask(path, limit), **{"events": masked(mask), **fields})


def likely(files: Files, limit: int = READS, **fields: Any) -> Row:
    """scoring."""
    return Row(
        files,
        "scoring",
        lambda path: references.scoring(path, limit),
        **{"events": singles(), "options": {"per_token": True}, **fields},
    )


def continued(files: Files, limit: int = READS, generate: dict[str, Any] | None = None, **fields: Any) -> Row:
    """text-generation of eight tokens."""
    return Row(
        files,
        "text-generation",
        lambda path: references.text_generation(path, limit, **(generate or {})),
        **{"events": singles(), "options": {"max_new_tokens": 8}, **fields},
    )


def written(files: Files, task: str, limit: int = READS, generate: Any = None, prefix: str = "", **fields: Any) -> Row:
    """A task of encoder and decoder, with targets of eight tokens."""
    return Row(
        files,
        task,
        lambda path: references.seq2seq(path, limit, prefix, **(generate or {})),
        **{"events": singles(max_new_tokens=8), **fields},
    )


def refused(files: Files, task: str, *words: str, **fields: Any) -> Row:
    """Not served; the message holds these words."""
    return Row(files, task, refused=words, **fields)


# --- comparing ---


def unlike(seen: Any, expected: Any, tolerance: float = TOLERANCE, where: str = "") -> str:
    """Where the answer is another one than expected; "" where it is not. Floats are near, all else is the same; what
    `expected` leaves out may be anything. A number over 1 is near within the tolerance's part of its size."""
    if isinstance(expected, dict):
        if not isinstance(seen, dict):
            return f"{where}: {_short(seen)}, not {_short(expected)}"
        pairs = [(f"{where}.{name}", seen.get(name, "nothing"), value) for name, value in expected.items()]
    elif isinstance(expected, list):
        if not isinstance(seen, list) or len(seen) != len(expected):
            return f"{where}: {_short(seen)}, not {_short(expected)}"
        pairs = [(f"{where}[{n}]", one, other) for n, (one, other) in enumerate(zip(seen, expected, strict=True))]
    elif isinstance(expected, float):
        fine = isinstance(seen, int | float) and math.isclose(seen, expected, rel_tol=tolerance, abs_tol=tolerance)
        return "" if fine else f"{where}: {_short(seen)}, not {expected}"
    else:
        return "" if seen == expected else f"{where}: {_short(seen)}, not {_short(expected)}"
    return next((found for place, one, other in pairs if (found := unlike(one, other, tolerance, place))), "")


def _short(value: Any) -> str:
    if isinstance(value, DataFailure):
        return f"failure {value.code.value}: {value.message}"
    return repr(value)[:160]
