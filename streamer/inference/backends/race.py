"""Which of two ways to run a network is the faster one here: timed over known rows at load, since no list of processors
would be complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from streamer.inference.models.tokenizer import Row

LIVE_ROWS = 8
BULK_ROWS = 64
_ROUNDS = 3


def windows(known: Sequence[Row]) -> list[list[Row]]:
    """What is timed: texts as they come when traffic is live, of mixed lengths, and as a backlog has them."""
    step = max(1, len(known) // LIVE_ROWS)
    live = list(known[::step][:LIVE_ROWS])
    return [live, [live[number % len(live)] for number in range(BULK_ROWS)]]


def score(compute: Callable[[Sequence[Row]], object], rows: Sequence[Sequence[Row]], threads: int) -> float:
    """Seconds for a token, summed over the windows: the least of some turns, which other programs disturb less. On one
    thread its own time is taken, which they disturb hardly at all."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    compute(rows[0])  # the first pass allocates
    seconds = 0.0
    for window in rows:
        least = float("inf")
        for _ in range(_ROUNDS):
            began = clock()
            compute(window)
            least = min(least, clock() - began)
        seconds += least / max(1, sum(len(row.ids) for row in window))
    return seconds
