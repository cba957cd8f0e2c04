"""Sets of offsets, beside sets of Python that hold each offset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.health.windows.intervals import Edges, add, closed, covers, limited, size, union

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda pair: (pair[0], sum(pair))), max_size=12)


def edges_of(ranges: list[tuple[int, int]]) -> Edges:
    edges: Edges = []
    for first, end in ranges:
        add(edges, first, end)
    return edges


def offsets(ranges: list[tuple[int, int]]) -> set[int]:
    return {offset for first, end in ranges for offset in range(first, end)}


def held(edges: Edges) -> set[int]:
    return offsets(list(zip(edges[::2], edges[1::2], strict=True)))


@given(RANGES, RANGES, st.integers(0, 45), st.integers(1, 8))
def test_holds_what_was_added(
    some: list[tuple[int, int]], others: list[tuple[int, int]], first: int, length: int
) -> None:
    """In as few ranges as possible."""
    edges: Edges = []
    known: set[int] = set()
    for start, end in some:
        add(edges, start, end)
        known |= offsets([(start, end)])
        assert edges == sorted(set(edges)), "ranges that touch are one"
    assert held(edges) == known and size(edges) == len(known)
    assert covers(edges, first, first + length) is (offsets([(first, first + length)]) <= known)
    both = union([edges, edges_of(others)])
    assert both == edges_of([*others, *some]) and held(both) == known | offsets(others)


@given(RANGES, RANGES, st.integers(0, 6))
def test_closing_and_uniting_in_any_order(some: list[tuple[int, int]], others: list[tuple[int, int]], gap: int) -> None:
    """Gaps that are filled before or after make no difference."""
    a, b = edges_of(some), edges_of(others)
    once = closed(union([a, b]), gap)
    assert once == closed(union([closed(a, gap), closed(b, gap)]), gap) == closed(union([b, closed(a, gap)]), gap)
    assert all(start - end > gap for end, start in zip(once[1:-1:2], once[2::2], strict=True))
    assert held(once) >= held(a) | held(b) and once[:1] == union([a, b])[:1] and once[-1:] == union([a, b])[-1:]


def test_the_narrowest_gaps_are_filled_first() -> None:
    """Of equal ones the lowest."""
    edges = [0, 1, 3, 4, 9, 10, 12, 13]
    assert limited(edges, 4) == edges
    assert limited(edges, 3) == [0, 4, 9, 10, 12, 13]
    assert limited(edges, 2) == [0, 4, 9, 13]
    assert limited(edges, 1) == [0, 13]
