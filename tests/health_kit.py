"""Reports for tests of whoever reads them."""

from __future__ import annotations

import struct
from typing import Any

from streamer.core.report import VERSION, Embedding, Generated, Histogram, Likelihood, Model, Report

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000 // (24 * HOUR_MS) * 24 * HOUR_MS + 12 * HOUR_MS
"""Noon of a day."""


def histogram(*values: int) -> Histogram:
    """Of values that are bounds."""
    return Histogram(sorted((value, values.count(value)) for value in set(values)), sum(values), max(values, default=0))


def report(
    time_ms: int = NOW_MS,
    first: int = 0,
    last: int = 9,
    *,
    pipeline: str = "p",
    revision: str = "r1",
    partition: int = 0,
    **fields: Any,
) -> Report:
    """A report of one range, with a result for each offset unless `fields` say otherwise."""
    given: dict[str, Any] = {
        "version": VERSION,
        "task": "text-classification",
        "model": Model("m", revision),
        "results": last - first + 1,
        "dead_letters": {},
        "skipped": {},
        "cached": 0,
        "truncated": 0,
        "tokens": 3 * (last - first + 1),
        "latency_ms": histogram(10, 100),
        "text_chars": histogram(50),
        "ranges": [("in", partition, first, last)],
    }
    return Report(pipeline=pipeline, time_ms=time_ms, **{**given, **fields})


def measured(seed: int, time_ms: int = NOW_MS) -> Report:
    """A report with every measure, whose numbers differ by `seed`; its sums are no round numbers."""
    bins = [(seed * place) % 7 for place in range(20)]
    return report(
        time_ms,
        first=seed * 100,
        last=seed * 100 + 30,
        dead_letters={"decode.json": seed % 3 + 1},
        labels={f"label {number}": number + 1 for number in range(seed % 5)} or None,
        other_labels=seed % 2,
        confidence=bins if seed % 5 else None,
        margin=bins,
        entropy=bins,
        scripts={"latin": seed, "greek": 1},
        empty=1,
        repeats=seed % 4,
        unknown_tokens=2,
        embedding=Embedding(
            count=2, sum=struct.pack("<3f", seed / 7, -seed / 3, 1e-3), norm=histogram(1000), projections=[bins, bins]
        ),
        generation=Generated(finish_reasons={"stop": seed}, output_tokens=histogram(5, 20), repetition=bins),
        likelihood=Likelihood(log_likelihood=-seed / 3, tokens=4, mean=bins),
    )
