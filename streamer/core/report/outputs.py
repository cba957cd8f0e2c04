"""What the outputs of a model say in sum: labels, written texts, likelihoods, vectors.

A model's outputs have one form. The beginning of the first one of a run tells which; a model of somebody's own, whose
outputs begin so and mean something else, is not counted.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from operator import mul
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from streamer.core.measures import SHARE_BINS
from streamer.core.report.form import Embedding, Generated, Likelihood
from streamer.core.report.histogram import IntegerCounts
from streamer.core.vectors import numbers_of

MAX_LABELS: Final = 50
MAX_LABEL_CHARS: Final = 256
CONFIDENCE_BINS: Final = SHARE_BINS
LIKELIHOOD_BINS: Final = 20
LIKELIHOOD_NATS: Final = 10
"""Nats of a token at the upper end of the last bin."""
VECTORS_READ: Final = 16
"""Vectors that a report reads: one of 384 numbers takes 40 µs to read and sum."""
_MOST_REASONS: Final = 8

_LARGEST: Final = 1e30  # the sum must be a float32, too

# Beyond these the sums of a report could not be made, or not be written as JSON.
_Tokens = Annotated[int, Meta(le=2**31)]
_LogLikelihood = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]


class _Classified(msgspec.Struct, gc=False):
    label: str
    score: float = -1.0


class _Written(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    completion_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None


class _Scored(msgspec.Struct, gc=False):
    log_likelihood: _LogLikelihood | None
    tokens: _Tokens


class _Vector(msgspec.Struct, gc=False):
    vector: list[float] | str
    scale: float = 1.0
    dtype: str = ""

    @property
    def numbers(self) -> Sequence[float]:
        """Raises ValueError for a string that is no vector."""
        found = numbers_of(self.vector, self.dtype) if isinstance(self.vector, str) else self.vector
        return found if self.scale == 1.0 else [number * self.scale for number in found]


_decode_classified = msgspec.json.Decoder(_Classified).decode
_decode_written = msgspec.json.Decoder(_Written).decode
_decode_scored = msgspec.json.Decoder(_Scored).decode
_decode_vector = msgspec.json.Decoder(_Vector).decode


class Outputs:
    """Sums over outputs."""

    def __init__(self) -> None:
        self._labels: Counter[str] = Counter()
        self._confidence: Counter[int] = Counter()
        self._reasons: Counter[str] = Counter()
        self._output_tokens = IntegerCounts()
        self._written = 0
        self._log_likelihoods: list[float] = []
        self._predicted = 0
        self._nats: Counter[int] = Counter()
        self._vectors: list[bytes] = []

    def add(self, outputs: list[bytes]) -> None:
        """Count the outputs of a run, at least one."""
        first = outputs[0]
        try:
            if first.startswith(b'{"label":'):
                self._add_classified(outputs)
            elif first.startswith(b'{"vector":'):
                self._vectors += outputs
            elif first.startswith(b'{"text":'):
                self._add_written(outputs)
            elif first.startswith(b'{"log_likelihood":'):
                self._add_scored(outputs)
        except msgspec.MsgspecError:
            pass

    def _add_classified(self, outputs: list[bytes]) -> None:
        found = [_decode_classified(output) for output in outputs]
        self._labels.update([each.label for each in found])
        self._confidence.update([int(each.score * CONFIDENCE_BINS) for each in found if 0.0 <= each.score <= 1.0])

    def _add_written(self, outputs: list[bytes]) -> None:
        found = [_decode_written(output) for output in outputs]
        tokens = [each.output_tokens if each.completion_tokens is None else each.completion_tokens for each in found]
        known = [count for count in tokens if count is not None and count >= 0]
        self._written += len(known)
        self._output_tokens.add(known)
        self._reasons.update([each.finish_reason[:MAX_LABEL_CHARS] for each in found if each.finish_reason])

    def _add_scored(self, outputs: list[bytes]) -> None:
        for each in [_decode_scored(output) for output in outputs]:
            if each.log_likelihood is not None and each.tokens > 0:
                self._log_likelihoods.append(each.log_likelihood)
                self._predicted += each.tokens
                share = -each.log_likelihood / each.tokens / LIKELIHOOD_NATS
                self._nats[int(min(max(share, 0.0), 1.0) * LIKELIHOOD_BINS)] += 1

    def labels(self) -> tuple[dict[str, int], int] | None:
        """The most frequent ones, and how many results have another; None where outputs name none."""
        if not self._labels:
            return None
        ranked = sorted(self._labels.items(), key=lambda item: (-item[1], item[0]))
        labels: Counter[str] = Counter()
        for label, count in ranked[:MAX_LABELS]:
            labels[label[:MAX_LABEL_CHARS]] += count
        return dict(labels), sum(count for _, count in ranked[MAX_LABELS:])

    def confidence(self) -> list[int]:
        """Counts of scores in 20 equal bins of [0, 1]; scores outside count nowhere."""
        return _bins(self._confidence, CONFIDENCE_BINS)

    def generation(self, repetition: list[int] | None) -> Generated | None:
        """What was written; None where nothing was."""
        if not self._written:
            return None
        reasons = dict(self._reasons.most_common(_MOST_REASONS))
        return Generated(reasons, self._output_tokens.histogram(), repetition or [0] * SHARE_BINS)

    def likelihood(self) -> Likelihood | None:
        """The likelihoods; None where no text has one."""
        if not self._predicted:
            return None
        return Likelihood(math.fsum(self._log_likelihoods), self._predicted, _bins(self._nats, LIKELIHOOD_BINS))

    def embedding(self, projections: list[list[int]]) -> Embedding | None:
        """The vectors; None where no output is one."""
        stride = max(1, -(-len(self._vectors) // VECTORS_READ))
        vectors: list[Sequence[float]] = []
        norms = IntegerCounts()
        for output in self._vectors[::stride]:
            try:
                vector = _decode_vector(output).numbers
            except (msgspec.MsgspecError, ValueError):
                continue
            norm = math.sqrt(sum(map(mul, vector, vector)))
            if not vector or not norm < _LARGEST or (vectors and len(vector) != len(vectors[0])):
                continue
            vectors.append(vector)
            norms.add([round(1000 * norm)])
        if not vectors:
            return None
        total = array("f", map(sum, zip(*vectors, strict=True)))
        if sys.byteorder == "big":
            total.byteswap()
        return Embedding(len(vectors), total.tobytes(), norms.histogram(), projections)


def _bins(counts: Counter[int], number: int) -> list[int]:
    """Equal bins of which the upper end counts in the last."""
    bins = [counts[index] for index in range(number)]
    bins[-1] += counts[number]
    return bins
