"""Which of the computations that wait share the next pass. It is decided before each pass, from values alone.

It takes as many as go well together. Smaller passes answer hardly anybody sooner: in virtual time, with Poisson
arrivals at 0.3 to 0.9 of capacity and texts of 24 or 110 tokens, bounds of 120 to 1,000 tokens never lowered the
median, and the 99th percentile by a seventh at most, of the long texts; a bound by a target for latency raised both.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamer.inference.model import Batching, cut


def next_pass(sizes: Sequence[tuple[int, int]], batching: Batching) -> list[int]:
    """The places in `sizes` (length and rows, oldest first) of those that go together: the oldest and those of similar
    lengths. So nothing waits for more than the pass under way and what is older, however many come after it."""
    order = sorted(range(len(sizes)), key=lambda place: sizes[place][0], reverse=True)
    ordered = [sizes[place] for place in order]
    first = 0
    while True:
        count = cut(ordered[first:], batching)
        if 0 in order[first : first + count]:
            return order[first : first + count]
        first += count
