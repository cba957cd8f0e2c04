"""Sets of offsets that stay small: ranges that touch become one.

A set is a rising list of edges, `[first, end, first, end …]`, ends excluded, so that it can be written as it is. What a
set holds does not depend on the order in which ranges came, or on how often each came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

Edges = list[int]


def covers(edges: Edges, first: int, end: int) -> bool:
    """Whether the set holds all offsets from `first` up to `end`, which is excluded."""
    place = bisect_right(edges, first)
    return place % 2 == 1 and edges[place] >= end


def add(edges: Edges, first: int, end: int) -> None:
    """Put the offsets from `first` up to `end`, excluded, into the set."""
    # Even places lie outside of all ranges, odd ones inside: an edge is kept only where it lies outside.
    left, right = bisect_left(edges, first), bisect_right(edges, end)
    edges[left:right] = [first] * (left % 2 == 0) + [end] * (right % 2 == 0)


def union(sets: Iterable[Edges]) -> Edges:
    """What any of the sets holds."""
    found: Edges = []
    for edges in sets:
        if not found:
            found = list(edges)
        else:
            for place in range(0, len(edges), 2):
                add(found, edges[place], edges[place + 1])
    return found


def size(edges: Edges) -> int:
    """How many offsets the set holds."""
    return sum(edges[1::2]) - sum(edges[::2])


def closed(edges: Edges, gap: int) -> Edges:
    """The set with its gaps of up to `gap` offsets filled. Closing and uniting, in any order, give the same set."""
    found = edges[:1]
    for place in range(1, len(edges) - 1, 2):
        if edges[place + 1] - edges[place] > gap:
            found += edges[place : place + 2]
    return found + edges[-1:] if edges else found


def limited(edges: Edges, most: int) -> Edges:
    """The set in at most `most` ranges; the narrowest gaps are filled, and of equal ones the lowest."""
    excess = len(edges) // 2 - most
    if excess <= 0:
        return edges
    gaps = sorted(range(1, len(edges) - 1, 2), key=lambda place: edges[place + 1] - edges[place])
    filled = {edge for place in gaps[:excess] for edge in (place, place + 1)}
    return [edge for place, edge in enumerate(edges) if place not in filled]
