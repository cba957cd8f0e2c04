"""Simulated windows of a classifier: a daily pattern, micro-batches whose records are alike, ten ways to go wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamer.core.health.windows.fold import FIVE_MINUTES_MS
from streamer.core.health.windows.window import Window
from streamer.core.report import BOUNDS, Embedding, Histogram, Likelihood

WINDOW_MS = FIVE_MINUTES_MS
A_DAY = 288  # windows
BATCH = 50
CORRELATION = 0.02
TABLES = 4  # projections of embeddings; real reports have 32
LABELS = ("question", "complaint", "praise", "order", "other")
SCRIPTS = ("latin", "cyrillic", "han", "none")

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class State:
    """What the stream is like at one time: shares, and the means of what is no share."""

    labels: Array
    confidence: Array
    lengths: Array
    scripts: Array
    projections: Array
    empty: float = 0.002
    repeats: float = 0.08
    tokens_per_character: float = 0.25
    unknown: float = 0.002
    negative_log_likelihood: float = 3.2


def _bell(size: int, middle: float, width: float) -> Array:
    heights = np.exp(-0.5 * ((np.arange(size) - middle) / width) ** 2) + 1e-4
    return np.asarray(heights / heights.sum())


def _mixed(one: Array, other: Array, share: float) -> Array:
    return (1 - share) * one + share * other


def _only(size: int, at: int) -> Array:
    return np.asarray(np.eye(size)[at])


LENGTHS = BOUNDS[:32]  # up to 1,259 characters

NORMAL = State(
    labels=np.array([0.30, 0.25, 0.20, 0.15, 0.10]),
    confidence=_mixed(_bell(20, 18, 1.5), _bell(20, 12, 3), 0.3),
    lengths=_bell(len(LENGTHS), 20, 3),
    scripts=np.array([0.94, 0.04, 0.015, 0.005]),
    projections=np.stack([_bell(16, 6 + table % 4, 2) for table in range(TABLES)]),
)
# In the evening there are more complaints, which are shorter.
EVENING = replace(
    NORMAL,
    labels=np.array([0.25, 0.32, 0.19, 0.14, 0.10]),
    confidence=_mixed(_bell(20, 18, 1.5), _bell(20, 12, 3), 0.4),
    lengths=_bell(len(LENGTHS), 19.5, 3),
    scripts=np.array([0.92, 0.06, 0.015, 0.005]),
    repeats=0.10,
    tokens_per_character=0.252,
)


def _label_moves(now: State) -> State:
    labels = now.labels.copy()
    labels *= (1 - labels[0] - 0.10) / (1 - labels[0])
    labels[0] = now.labels[0] + 0.10
    return replace(now, labels=labels)


SHIFTS = {
    "10 points of a 30 % label": ("label", _label_moves),
    "language": (
        "script",
        lambda now: replace(
            now,
            scripts=np.array([0.60, 0.38, 0.015, 0.005]),
            tokens_per_character=now.tokens_per_character * 1.3,
            lengths=_bell(len(LENGTHS), 19, 3),
        ),
    ),
    "length": ("text_chars", lambda now: replace(now, lengths=_bell(len(LENGTHS), 18, 3))),
    "mojibake": (
        "tokens_per_character",
        lambda now: replace(
            now, tokens_per_character=now.tokens_per_character * 1.15, lengths=_bell(len(LENGTHS), 20.5, 3)
        ),
    ),
    "confidence collapse": ("confidence", lambda now: replace(now, confidence=_bell(20, 11, 4))),
    "empty texts": (
        "empty",
        lambda now: replace(
            now,
            empty=0.08,
            scripts=_mixed(now.scripts, _only(len(SCRIPTS), 3), 0.08),
            lengths=_mixed(now.lengths, _only(len(LENGTHS), 0), 0.08),
        ),
    ),
    "duplicates flood": (
        "repeats",
        lambda now: replace(
            now,
            repeats=0.5,
            labels=_mixed(now.labels, _only(len(LABELS), 2), 0.4),
            lengths=_mixed(now.lengths, _only(len(LENGTHS), 20), 0.4),
        ),
    ),
    "embedding shift": (
        "embedding",
        lambda now: replace(now, projections=np.stack([_bell(16, 7 + table % 4, 2) for table in range(TABLES)])),
    ),
    "perplexity": ("perplexity", lambda now: replace(now, negative_log_likelihood=3.5)),
    "a constant answer": (
        "label",
        lambda now: replace(now, labels=_only(len(LABELS), 1), confidence=_only(20, 12)),
    ),
}
"""By what goes wrong: the monitor that has to name it, and what becomes of the stream."""


class Stream:
    """A stream of `records` a window in the mean, by `tide` more or fewer in the course of a day. `wander` moves the
    evening's share at random from hour to hour."""

    def __init__(self, seed: int, records: int, tide: float = 0.4, wander: float = 0.0) -> None:
        self._random = np.random.default_rng(seed)
        self._records = records
        self._tide = tide
        self._wander = self._random.normal(0, wander, 24 * 32) if wander else np.zeros(24 * 32)
        self._phase = self._random.uniform(0, 2 * np.pi)

    def windows(self, first: int, count: int, shift: str = "") -> list[Window]:
        """So many windows from this one on, all of them shifted if a shift is named."""
        numbers = np.arange(first, first + count)
        angle = 2 * np.pi * numbers / A_DAY + self._phase
        evening = 0.5 + 0.5 * np.sin(angle) + self._wander[numbers // 12]
        batches = np.maximum(1, np.round(self._records * (1 + self._tide * np.sin(angle)) / BATCH)).astype(int)
        change = SHIFTS[shift][1] if shift else lambda state: state
        day, night = change(NORMAL), change(EVENING)
        starts = np.concatenate([[0], np.cumsum(batches)[:-1]])
        share = np.repeat(evening, batches)

        def shares(one: Any, other: Any) -> Any:
            """Counts by window: each micro-batch draws shares of its own first, and then its records."""
            one, other = (np.atleast_1d(value) for value in (one, other))
            if one.size == 1:
                one, other = (np.concatenate([value, 1 - value]) for value in (one, other))
            means = np.clip(one + share[:, None] * (other - one), 0, 1)
            drawn = self._random.standard_gamma(means * (1 / CORRELATION - 1)) + 1e-30 * (means > 0)
            counts = self._random.multinomial(BATCH, drawn / drawn.sum(axis=1, keepdims=True))
            return np.add.reduceat(counts, starts, axis=0)

        def mean(one: float, other: float, spread: float) -> Any:
            """A quantity's mean by micro-batch."""
            return (one + share * (other - one)) * np.exp(self._random.normal(0, spread, len(share)))

        lengths = shares(day.lengths, night.lengths)
        chars = lengths @ np.array(LENGTHS)
        weights = np.repeat(chars / batches, batches)
        tokens = weights * mean(day.tokens_per_character, night.tokens_per_character, 0.05)
        unknown = self._random.poisson(tokens * mean(day.unknown, night.unknown, 0.3))
        surprise = tokens * mean(day.negative_log_likelihood, night.negative_log_likelihood, 0.05)
        tokens, unknown, surprise = (np.add.reduceat(values, starts) for values in (tokens, unknown, surprise))
        labels, confidence = shares(day.labels, night.labels), shares(day.confidence, night.confidence)
        scripts = shares(day.scripts, night.scripts)
        empty, repeats = shares(day.empty, night.empty)[:, 0], shares(day.repeats, night.repeats)[:, 0]
        dead, cut = shares(0.003, 0.003)[:, 0], shares(0.02, 0.02)[:, 0]
        projections = np.stack([shares(*pair) for pair in zip(day.projections, night.projections, strict=True)], axis=1)
        norm = shares(_bell(16, 8, 2), _bell(16, 8, 2))
        return [
            Window(
                pipeline="simulated",
                revision="r1",
                start_ms=(start_ms := int(number) * WINDOW_MS),
                length_ms=WINDOW_MS,
                first_ms=start_ms,
                last_ms=start_ms,
                results=int(batches[at]) * BATCH - int(dead[at]),
                truncated=int(cut[at]),
                tokens=int(tokens[at]),
                latency_ms=Histogram([], 0, 0),
                labels=dict(zip(LABELS, labels[at].tolist(), strict=True)),
                confidence=confidence[at].tolist(),
                scripts=dict(zip(SCRIPTS, scripts[at].tolist(), strict=True)),
                empty=int(empty[at]),
                repeats=int(repeats[at]),
                unknown_tokens=int(unknown[at]),
                text_chars=_histogram(LENGTHS, lengths[at], int(chars[at])),
                embedding=Embedding(0, b"", _histogram(BOUNDS[22:38], norm[at], 0), projections[at].tolist()),
                likelihood=Likelihood(-float(surprise[at]), int(tokens[at]), []),
                dead_letters={"decode.json": int(dead[at])},
            )
            for at, number in enumerate(numbers)
        ]


def _histogram(bounds: tuple[int, ...], counts: Any, total: int) -> Histogram:
    found = [(bound, count) for bound, count in zip(bounds, counts.tolist(), strict=True) if count]
    return Histogram(found, total, found[-1][0] if found else 0)
