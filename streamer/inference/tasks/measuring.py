"""Measures of the answers of a forward batch, while its numbers are there (`core.measures`)."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.core.measures import (
    ABSENT,
    HEAD_BYTES,
    PROJECTION_BINS,
    PROJECTION_RANGE,
    PROJECTIONS,
    SHARE_BINS,
    VECTOR_BYTES,
)
from streamer.core.vectors import numbers_of

_Numbers = npt.NDArray[np.floating[Any]]
_HEAD = [("unknown", "<u4"), ("margin", "u1"), ("entropy", "u1"), ("repetition", "u1")]
_SUMS_TO_1 = 0.001
_TINY = float(np.finfo(np.float32).tiny)


def of_scores(unknown: list[int], scores: _Numbers, *, shares: bool) -> list[bytes]:
    """(n, labels), two at least: the margin between the best two, and where they are `shares` of 1 the entropy."""
    found = np.zeros(len(unknown), dtype=_HEAD)
    found["unknown"], found["repetition"] = unknown, ABSENT
    best = np.partition(scores, -2, axis=1)[:, -2:]
    found["margin"] = _bins(best[:, 1] - best[:, 0])
    found["entropy"] = ABSENT
    if shares:
        nats = -(scores * np.log(np.maximum(scores, _TINY))).sum(axis=1)
        found["entropy"] = _bins(nats / np.log(scores.shape[1]))
    return _apart(found.tobytes(), HEAD_BYTES)


def of_vectors(unknown: list[int], vectors: _Numbers) -> list[bytes]:
    """(n, d): their random projections."""
    found = np.zeros(len(unknown), dtype=[*_HEAD, ("projections", "u1", (PROJECTIONS,))])
    found["unknown"] = unknown
    found["margin"] = found["entropy"] = found["repetition"] = ABSENT
    scaled = vectors / np.maximum(np.abs(vectors).max(axis=1, keepdims=True), _TINY)  # whose squares are numbers, too
    norms = np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), _TINY)
    along = scaled @ _signs(vectors.shape[1]) / norms
    places = (along + PROJECTION_RANGE) * (PROJECTION_BINS / (2 * PROJECTION_RANGE))
    found["projections"] = places.clip(0, PROJECTION_BINS - 1)
    return _apart(found.tobytes(), VECTOR_BYTES)


def of_output(output: dict[str, Any]) -> bytes:
    """Of an output that somebody's own class made, in JSON's types, where it has the form of a classification with the
    scores of several labels, or of an embedding."""
    with suppress(TypeError, ValueError, KeyError, OverflowError):
        if isinstance(scores := output.get("scores"), list) and len(scores) > 1:
            shares = np.array([[float(each["score"]) for each in scores]])
            if shares.min() >= 0 and shares.max() <= 1:
                return of_scores([0], shares, shares=abs(float(shares.sum()) - 1) < _SUMS_TO_1)[0]
        elif (vector := output.get("vector")) and isinstance(vector, list | str):
            found = vector if isinstance(vector, list) else numbers_of(vector, output["dtype"])
            numbers = np.array([found], dtype=np.float64)
            if numbers.ndim == 2 and np.isfinite(numbers).all():
                return of_vectors([0], numbers)[0]
    return b""


@lru_cache(maxsize=4)
def _signs(dimensions: int) -> npt.NDArray[np.float32]:
    """(d, projections), the same for ever: the stream of RandomState is frozen."""
    drawn = np.random.RandomState(dimensions).randint(0, 2, (dimensions, PROJECTIONS))
    return (2 * drawn - 1).astype(np.float32)


def _bins(shares: _Numbers) -> npt.NDArray[np.uint8]:
    return (shares * SHARE_BINS).clip(0, SHARE_BINS - 1).astype(np.uint8)


def _apart(joined: bytes, size: int) -> list[bytes]:
    return [joined[first : first + size] for first in range(0, len(joined), size)]
