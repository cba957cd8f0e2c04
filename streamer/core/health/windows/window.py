"""What the settles of a stretch of time did: sums of reports that can be merged in any order and any grouping.

All sums are exact. Fractions are first rounded to a grid, on which doubles add without an error: 2^-20 for components
of vectors, up to a sum of 8 billion; 2^-10 nats for log likelihoods, up to 8 million million.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from streamer.core.health.sums import added
from streamer.core.health.windows.intervals import Edges, size, union
from streamer.core.report import Embedding, Generated, Histogram, Likelihood, Report

MAX_LABELS: Final = 256
"""Labels that a window counts by name: the first ones by name, since the most frequent so far would depend on the order
of the reports. A report names 50 at most, so this is enough for every model but those with a label for each text."""

VECTOR_GRID: Final = 2.0**20
LIKELIHOOD_GRID: Final = 2.0**10


class Window(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The reports of one pipeline and one revision of its model whose time lies in a stretch of `length_ms` from
    `start_ms` on.

    `micro_batches` counts reports. `first_ms` and `last_ms` are the times of the first and the last of them. `ranges`
    are the input offsets settled, by `topic/partition`, as `intervals` keeps them; `offsets` counts them as often as
    they were settled. The other fields are those of reports, summed; None where no report has them. The sum of vectors
    is of doubles. A sum of several revisions has the revision "".
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
    embedding: Embedding | None = None
    generation: Generated | None = None
    likelihood: Likelihood | None = None

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


_NOT_COUNTED: Final = {"pipeline", "task", "model", "ranges"}
_COUNTED: Final = [name for name in Report.__struct_fields__ if name in {*Window.__struct_fields__} - _NOT_COUNTED]


def window_of(report: Report, length_ms: int) -> Window:
    """The window of one report, without its ranges."""
    window = Window(
        **{name: getattr(report, name) for name in _COUNTED},
        pipeline=report.pipeline,
        revision=report.model.revision,
        start_ms=report.time_ms // length_ms * length_ms,
        length_ms=length_ms,
        model=report.model.name,
        task=report.task,
        first_ms=report.time_ms,
        last_ms=report.time_ms,
    )
    window.embedding, window.likelihood = _on_grid(report.embedding), _likelihood_on_grid(report.likelihood)
    return window


def merged(windows: Sequence[Window]) -> Window:
    """All of them together, over the stretch that all lie in; at least one. Raises ValueError for windows of different
    pipelines."""
    if len({window.pipeline for window in windows}) != 1:
        raise ValueError("windows of different pipelines have no sum")
    revisions = {window.revision for window in windows}
    start_ms = min(window.start_ms for window in windows)
    names = [name for name in (*_COUNTED, "micro_batches", "offsets") if name != "embedding"]
    sums: dict[str, Any] = {name: added([getattr(window, name) for window in windows]) for name in names}
    found = Window(
        **sums,
        pipeline=windows[0].pipeline,
        revision=revisions.pop() if len(revisions) == 1 else "",
        start_ms=start_ms,
        length_ms=max(window.end_ms for window in windows) - start_ms,
        model=max(window.model for window in windows),
        task=max(window.task for window in windows),
        first_ms=min(window.first_ms for window in windows),
        last_ms=max(window.last_ms for window in windows),
        ranges=_ranges(windows),
        embedding=_embedding([window.embedding for window in windows if window.embedding is not None]),
    )
    if found.labels is not None and len(found.labels) > MAX_LABELS:
        for label in sorted(found.labels)[MAX_LABELS:]:
            found.other_labels += found.labels.pop(label)
    return found


def vector_sum(embedding: Embedding) -> tuple[float, ...]:
    """The sum of all vectors of a window; divide it by `count` for the centroid."""
    return struct.unpack(f"<{len(embedding.sum) // 8}d", embedding.sum)


def _ranges(windows: Sequence[Window]) -> dict[str, Edges]:
    named = [window.ranges for window in windows if window.ranges]
    places = {place for ranges in named for place in ranges}
    return {place: union(ranges[place] for ranges in named if place in ranges) for place in places}


def _embedding(parts: Sequence[Embedding]) -> Embedding | None:
    if not parts:
        return None
    # One revision has one size of vectors; of several revisions the larger vectors count.
    length = max(len(part.sum) for part in parts)
    alike = [part for part in parts if len(part.sum) == length]
    sums = map(sum, zip(*map(vector_sum, alike), strict=True))
    return Embedding(
        sum([part.count for part in alike]),
        struct.pack(f"<{length // 8}d", *sums),
        added([part.norm for part in alike]) or alike[0].norm,
        added([part.projections for part in parts]) or [],
    )


def _on_grid(found: Embedding | None) -> Embedding | None:
    if found is None or len(found.sum) % 4:
        return None
    values = struct.unpack(f"<{len(found.sum) // 4}f", found.sum)
    if not all(map(math.isfinite, values)):  # nothing can be added to it
        return None
    rounded = [_rounded(value, VECTOR_GRID) for value in values]
    return Embedding(found.count, struct.pack(f"<{len(rounded)}d", *rounded), found.norm, found.projections)


def _likelihood_on_grid(found: Likelihood | None) -> Likelihood | None:
    if found is None or not math.isfinite(found.log_likelihood * LIKELIHOOD_GRID):
        return None
    return Likelihood(_rounded(found.log_likelihood, LIKELIHOOD_GRID), found.tokens, found.mean)


def _rounded(value: float, grid: float) -> float:
    return math.floor(value * grid + 0.5) / grid
