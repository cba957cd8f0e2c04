"""Monitors: what of a window is watched, each as sums that add up over windows.

They stand in the order of explanation: what comes in explains what goes out. A flood of duplicates moves the labels,
too; the first monitor that drifts is the one to name.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from streamer.core.health.quality.perplexity import MOST_NATS
from streamer.core.health.windows.window import Window
from streamer.core.measures import SHARE_BINS

Kind = Literal["categories", "histogram", "ratio"]


class Sums(msgspec.Struct):
    """What one monitor took from windows: `records` stood behind `counts`. Shares count records by category, or by
    the bin of a histogram; ratios have `sum` and `of`."""

    records: int
    counts: dict[str, float]

    @property
    def ratio(self) -> float:
        """The value, if this is a ratio."""
        return self.counts["sum"] / self.counts["of"]


@dataclass(frozen=True, slots=True)
class Monitor:
    """One thing that is watched. `read` takes one table of sums or several alike from a window, none where reports do
    not tell. `of_model` says that another model may answer otherwise. `floor` is the least move of a ratio that
    matters, in its own unit, or `relative` to the baseline's. `words` name it to people, and `unit` says what a
    ratio, or a histogram's key, is to them."""

    name: str
    kind: Kind
    read: Callable[[Window], list[Sums]]
    words: str = ""
    of_model: bool = False
    floor: float = 0.0
    relative: bool = False
    unit: Callable[[float], float] = float


def _table(counts: Mapping[str, float] | None) -> list[Sums]:
    records = int(sum(counts.values())) if counts else 0
    return [Sums(records, dict(counts))] if counts and records else []


def _bins(counts: Sequence[int] | None) -> list[Sums]:
    return _table({str(at): count for at, count in enumerate(counts) if count} if counts else None)


def _histogram(found: Any) -> list[Sums]:
    return _table({str(bound): count for bound, count in found.counts} if found else None)


def _share(name: str, count: int, records: int) -> list[Sums]:
    return _table({name: min(count, records), "other": max(records - count, 0)})


def _counted(window: Window) -> bool:
    """Whether reports told of empty texts, repeats and unknown tokens at all: those of version 1 do not."""
    return window.scripts is not None


def _ratio(records: int, total: float, of: float) -> list[Sums]:
    return [Sums(records, {"sum": total, "of": of})] if records and of > 0 else []


def _texts(window: Window) -> int:
    return sum(count for _, count in window.text_chars.counts)


def _labels(window: Window) -> list[Sums]:
    if window.labels is None:
        return []
    return _table({**window.labels, "(others)": window.other_labels} if window.other_labels else window.labels)


def _projections(window: Window) -> list[Sums]:
    found = window.embedding
    return [table for bins in found.projections for table in _bins(bins)] if found else []


def _perplexity(nats: float) -> float:
    return math.exp(min(nats, MOST_NATS))


def _bin_middle(at: float) -> float:
    return (at + 0.5) / SHARE_BINS


MONITORS: tuple[Monitor, ...] = (
    Monitor(
        "outcome",
        "categories",
        lambda w: _table({**w.dead_letters, "answered": w.results} if w.dead_letters or w.results else None),
        "outcome",
    ),
    Monitor(
        "empty", "categories", lambda w: _share("empty", w.empty, _texts(w)) if _counted(w) else [], "texts that are"
    ),
    Monitor(
        "repeats",
        "categories",
        lambda w: _share("repeated", w.repeats, w.results) if _counted(w) else [],
        "inputs that are",
    ),
    Monitor("script", "categories", lambda w: _table(w.scripts), "script"),
    Monitor(
        "unknown_tokens",
        "ratio",
        lambda w: _ratio(w.results, w.unknown_tokens, w.tokens) if _counted(w) else [],
        "unknown tokens of all",
        of_model=True,
        floor=0.01,
    ),
    Monitor(
        "tokens_per_character",
        "ratio",
        lambda w: _ratio(w.results, w.tokens, w.text_chars.sum),
        "tokens per character",
        of_model=True,
        floor=0.05,
        relative=True,
    ),
    Monitor("text_chars", "histogram", lambda w: _histogram(w.text_chars), "text length, characters"),
    Monitor("truncated", "categories", lambda w: _share("truncated", w.truncated, w.results), "texts", of_model=True),
    Monitor("embedding", "histogram", _projections, "embeddings", of_model=True),
    Monitor(
        "embedding_norm",
        "histogram",
        lambda w: _histogram(w.embedding.norm) if w.embedding else [],
        "norm of embeddings",
        of_model=True,
        unit=lambda bound: bound / 1000,
    ),
    Monitor(
        "perplexity",
        "ratio",
        lambda w: _ratio(w.results, -w.likelihood.log_likelihood, w.likelihood.tokens) if w.likelihood else [],
        "perplexity",
        of_model=True,
        floor=0.05,  # nats a token: 5 % of the perplexity
        unit=_perplexity,
    ),
    Monitor(
        "finish_reason",
        "categories",
        lambda w: _table(w.generation.finish_reasons) if w.generation else [],
        "finish reason",
        of_model=True,
    ),
    Monitor(
        "output_tokens",
        "histogram",
        lambda w: _histogram(w.generation.output_tokens) if w.generation else [],
        "output length, tokens",
        of_model=True,
    ),
    Monitor(
        "repetition",
        "histogram",
        lambda w: _bins(w.generation.repetition) if w.generation else [],
        "repetition in answers",
        of_model=True,
        unit=_bin_middle,
    ),
    Monitor("label", "categories", _labels, "label", of_model=True),
    Monitor("confidence", "histogram", lambda w: _bins(w.confidence), "confidence", of_model=True, unit=_bin_middle),
    Monitor("margin", "histogram", lambda w: _bins(w.margin), "margin", of_model=True, unit=_bin_middle),
    Monitor("entropy", "histogram", lambda w: _bins(w.entropy), "entropy", of_model=True, unit=_bin_middle),
)


class Binning(msgspec.Struct):
    """How a monitor's counts become bins. Categories that are common have bins of their own, in this order, and all
    others share the last; a histogram is cut above each of `edges`."""

    categories: list[str] = []
    edges: list[int] = []

    @staticmethod
    def of(kind: Kind, sums: Sums, least_share: float) -> Binning:
        """Cut so that a bin holds at least this share. Outside of what a histogram has seen there are bins of their
        own, so that nothing new is taken for something known."""
        least = least_share * sums.records
        if kind == "categories":
            common = [name for name, count in sums.counts.items() if count >= least]
            return Binning(categories=sorted(common, key=lambda name: (-sums.counts[name], name)))
        seen = sorted((int(key), count) for key, count in sums.counts.items() if count)
        edges = [seen[0][0] - 1]
        inside = 0.0
        for key, count in seen:
            inside += count
            if inside >= least:
                edges.append(key)
                inside = 0.0
        if inside and len(edges) > 1:
            edges.pop()
        return Binning(edges=[*edges, seen[-1][0]] if edges[-1] != seen[-1][0] else edges)

    def bins(self, sums: Sums) -> list[float]:
        """Records by bin."""
        if not self.edges:
            found = [sums.counts.get(name, 0) for name in self.categories]
            return [*found, sums.records - sum(found)]
        binned = [0.0] * (len(self.edges) + 1)
        for key, count in sums.counts.items():
            binned[bisect_left(self.edges, int(key))] += count
        return binned
