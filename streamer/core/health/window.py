"""What the settles of a stretch of time did: sums of reports that can be merged in any order and any grouping.

All sums are exact. Fractions are first rounded to a grid, on which doubles add without an error: 2^-20 for components
of vectors, up to a sum of 8 billion; 2^-10 nats for log likelihoods, up to 8 million million.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final

import msgspec

from streamer.core.health.intervals import Edges, size, union
from streamer.core.report import Histogram, Report

MAX_LABELS: Final = 256
"""Labels that a window counts by name: the first ones by name, since the most frequent so far would depend on the order
of the reports. A report names 50 at most, so this is enough for every model but those with a label for each text."""

VECTOR_GRID: Final = 2.0**20
LIKELIHOOD_GRID: Final = 2.0**10


class Embeddings(msgspec.Struct):
    """Sums over vectors: `sum` holds doubles (little endian), one a dimension; `norm` counts 1,000 times the norm."""

    count: int
    sum: bytes
    norm: Histogram
    projections: list[list[int]]


class Generations(msgspec.Struct):
    """Sums over generated texts; `repetition` counts 1 - the share of distinct trigrams in 20 bins of [0, 1]."""

    finish_reasons: dict[str, int]
    output_tokens: Histogram
    repetition: list[int]


class Likelihoods(msgspec.Struct):
    """Sums over scored texts: natural logarithms, and by the mean of -log likelihood in 20 bins of [0, 10]."""

    log_likelihood: float
    tokens: int
    mean: list[int]


class Window(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The reports of one pipeline and one revision of its model whose time lies in a stretch of `length_ms` from
    `start_ms` on.

    `micro_batches` counts reports. `first_ms` and `last_ms` are the times of the first and the last of them. `ranges`
    are the input offsets settled, by `topic/partition`, as `intervals` keeps them; `offsets` counts them as often as
    they were settled. The other fields are those of reports, summed; None where no report has them. A merge of several
    revisions has the revision "".
    """

    pipeline: str
    revision: str
    start_ms: int
    length_ms: int
    model: str = ""
    task: str = ""
    first_ms: int
    last_ms: int
    micro_batches: int = 1
    offsets: int = 0
    ranges: dict[str, Edges] = {}
    results: int = 0
    dead_letters: dict[str, int] = {}
    skipped: dict[str, int] = {}
    cached: int = 0
    truncated: int = 0
    tokens: int = 0
    latency_ms: Histogram
    text_chars: Histogram
    labels: dict[str, int] | None = None
    other_labels: int = 0
    confidence: list[int] | None = None
    margin: list[int] | None = None
    entropy: list[int] | None = None
    scripts: dict[str, int] | None = None
    empty: int = 0
    repeats: int = 0
    unknown_tokens: int = 0
    embedding: Embeddings | None = None
    generation: Generations | None = None
    likelihood: Likelihoods | None = None

    @property
    def end_ms(self) -> int:
        """Where it ends, excluded."""
        return self.start_ms + self.length_ms

    @property
    def records(self) -> int:
        """Records that have their outcome."""
        return self.results + sum(self.dead_letters.values()) + sum(self.skipped.values())

    @property
    def settled_again(self) -> int:
        """Offsets that were settled more than once, at least: at_least_once repeats some after a failure, and a
        partition may be read again."""
        return max(0, self.offsets - sum(map(size, self.ranges.values())))

    def merge(self, other: Window) -> Window:
        """Both together, over the stretch that both lie in. Raises ValueError for another pipeline's."""
        return merged((self, other))


def window_of(report: Report, length_ms: int) -> Window:
    """The window of one report, without its ranges."""
    return Window(
        pipeline=report.pipeline,
        revision=report.model.revision,
        start_ms=report.time_ms // length_ms * length_ms,
        length_ms=length_ms,
        model=report.model.name,
        task=report.task,
        first_ms=report.time_ms,
        last_ms=report.time_ms,
        results=report.results,
        dead_letters=report.dead_letters,
        skipped=report.skipped,
        cached=report.cached,
        truncated=report.truncated,
        tokens=report.tokens,
        latency_ms=report.latency_ms,
        text_chars=report.text_chars,
        labels=report.labels,
        other_labels=report.other_labels,
        confidence=report.confidence,
        margin=report.margin,
        entropy=report.entropy,
        scripts=report.scripts,
        empty=report.empty,
        repeats=report.repeats,
        unknown_tokens=report.unknown_tokens,
        embedding=_embeddings(report.embedding),
        generation=_generations(report.generation),
        likelihood=_likelihoods(report.likelihood),
    )


def merged(windows: Sequence[Window]) -> Window:
    """All of them together, over the stretch that all lie in; at least one. Raises ValueError for windows of different
    pipelines."""
    if len({window.pipeline for window in windows}) != 1:
        raise ValueError("windows of different pipelines have no sum")
    revisions = {window.revision for window in windows}
    start_ms = min(window.start_ms for window in windows)
    labels = _counts(window.labels for window in windows)
    other_labels = sum([window.other_labels for window in windows])
    if labels is not None and len(labels) > MAX_LABELS:
        for label in sorted(labels)[MAX_LABELS:]:
            other_labels += labels.pop(label)
    return Window(
        pipeline=windows[0].pipeline,
        revision=revisions.pop() if len(revisions) == 1 else "",
        start_ms=start_ms,
        length_ms=max(window.end_ms for window in windows) - start_ms,
        model=max(window.model for window in windows),
        task=max(window.task for window in windows),
        first_ms=min(window.first_ms for window in windows),
        last_ms=max(window.last_ms for window in windows),
        micro_batches=sum([window.micro_batches for window in windows]),
        offsets=sum([window.offsets for window in windows]),
        ranges=_ranges(windows),
        results=sum([window.results for window in windows]),
        dead_letters=_counts(window.dead_letters for window in windows) or {},
        skipped=_counts(window.skipped for window in windows) or {},
        cached=sum([window.cached for window in windows]),
        truncated=sum([window.truncated for window in windows]),
        tokens=sum([window.tokens for window in windows]),
        latency_ms=_histogram([window.latency_ms for window in windows]),
        text_chars=_histogram([window.text_chars for window in windows]),
        labels=labels,
        other_labels=other_labels,
        confidence=_bins(window.confidence for window in windows),
        margin=_bins(window.margin for window in windows),
        entropy=_bins(window.entropy for window in windows),
        scripts=_counts(window.scripts for window in windows),
        empty=sum([window.empty for window in windows]),
        repeats=sum([window.repeats for window in windows]),
        unknown_tokens=sum([window.unknown_tokens for window in windows]),
        embedding=_all_embeddings([window.embedding for window in windows if window.embedding is not None]),
        generation=_all_generations([window.generation for window in windows if window.generation is not None]),
        likelihood=_all_likelihoods([window.likelihood for window in windows if window.likelihood is not None]),
    )


def vector_sum(embedding: Embeddings) -> tuple[float, ...]:
    """The sum of all vectors; divide it by `count` for the centroid."""
    return struct.unpack(f"<{len(embedding.sum) // 8}d", embedding.sum)


def _ranges(windows: Sequence[Window]) -> dict[str, Edges]:
    named = [window.ranges for window in windows if window.ranges]
    places = {place for ranges in named for place in ranges}
    return {place: union(ranges[place] for ranges in named if place in ranges) for place in places}


def _counts(parts: Iterable[dict[str, int] | None]) -> dict[str, int] | None:
    found: dict[str, int] | None = None
    for part in parts:
        if part is None:
            continue
        if found is None:
            found = dict(part)
            continue
        for name, count in part.items():
            found[name] = found.get(name, 0) + count
    return found


def _bins(parts: Iterable[list[int] | None]) -> list[int] | None:
    given = [part for part in parts if part is not None]
    return list(map(sum, zip_longest(*given, fillvalue=0))) if given else None


def _histogram(parts: Sequence[Histogram]) -> Histogram:
    counts: dict[int, int] = {}
    for part in parts:
        for bound, count in part.counts:
            counts[bound] = counts.get(bound, 0) + count
    return Histogram(sorted(counts.items()), sum([part.sum for part in parts]), max(part.max for part in parts))


def _embeddings(found: Any) -> Embeddings | None:
    if found is None or len(found.sum) % 4:
        return None
    values = struct.unpack(f"<{len(found.sum) // 4}f", found.sum)
    if not all(map(math.isfinite, values)):  # nothing can be added to it
        return None
    rounded = [math.floor(value * VECTOR_GRID + 0.5) / VECTOR_GRID for value in values]
    return Embeddings(found.count, struct.pack(f"<{len(rounded)}d", *rounded), found.norm, found.projections)


def _generations(found: Any) -> Generations | None:
    return None if found is None else Generations(found.finish_reasons, found.output_tokens, found.repetition)


def _likelihoods(found: Any) -> Likelihoods | None:
    if found is None or not math.isfinite(found.log_likelihood * LIKELIHOOD_GRID):
        return None
    rounded = math.floor(found.log_likelihood * LIKELIHOOD_GRID + 0.5) / LIKELIHOOD_GRID
    return Likelihoods(rounded, found.tokens, found.mean)


def _all_embeddings(parts: Sequence[Embeddings]) -> Embeddings | None:
    if not parts:
        return None
    # One revision has one size of vectors; of several revisions the larger vectors count.
    length = max(len(part.sum) for part in parts)
    alike = [part for part in parts if len(part.sum) == length]
    sums = map(sum, zip(*map(vector_sum, alike), strict=True))
    rows = zip_longest(*(part.projections for part in parts), fillvalue=[])
    return Embeddings(
        sum([part.count for part in alike]),
        struct.pack(f"<{length // 8}d", *sums),
        _histogram([part.norm for part in alike]),
        [_bins(row) or [] for row in rows],
    )


def _all_generations(parts: Sequence[Generations]) -> Generations | None:
    if not parts:
        return None
    return Generations(
        _counts(part.finish_reasons for part in parts) or {},
        _histogram([part.output_tokens for part in parts]),
        _bins(part.repetition for part in parts) or [],
    )


def _all_likelihoods(parts: Sequence[Likelihoods]) -> Likelihoods | None:
    if not parts:
        return None
    return Likelihoods(
        sum([part.log_likelihood for part in parts]),
        sum([part.tokens for part in parts]),
        _bins(part.mean for part in parts) or [],
    )
