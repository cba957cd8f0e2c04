"""Dead letters of one cause are one line: counted, placed in time, with an example."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.deadletters.causes import Causes, Timeline, fingerprint, normalised, sparkline
from streamer.core.deadletters.families import Family, Reason
from streamer.errors import Code
from tests.unit.deadletters_kit import SPRING, TIME_MS, foreign, letter, ours


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("index 17 is out of range", "index 2048 is out of range"),
        ("took 1.25 s", "took 3,000 s"),
        ("no user 6f1c0f3e-9a51-4f6e-8a0e-0d9c6f2b1a77", "no user 00000000-0000-0000-0000-000000000000"),
        ("digest 9f2c4e1b7a60 is unknown", "digest 0011aabbccdd is unknown"),
        ("a  b\tc", "a b c"),
    ],
)
def test_what_differs_by_chance_is_one_cause(one: str, other: str) -> None:
    """Numbers, digests, UUIDs and spaces do not make another cause."""
    assert normalised(one) == normalised(other)
    assert fingerprint(reason(one)) == fingerprint(reason(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Reason(Family.STREAMER, "a", message="m"), Reason(Family.STREAMER, "b", message="m")),
        (Reason(Family.STREAMER, "a", exception="X"), Reason(Family.STREAMER, "a", exception="Y")),
        (Reason(Family.STREAMER, "a", exception="X"), Reason(Family.STREAMER, "a", message="X")),
        (Reason(Family.STREAMER, "a", message="defaced"), Reason(Family.STREAMER, "a", message="effaced")),
    ],
)
def test_other_causes_are_others(one: Reason, other: Reason) -> None:
    """Code, exception and words count, each in its place; a word of the letters a to f is no digest."""
    assert fingerprint(one) != fingerprint(other)


def reason(message: str) -> Reason:
    return Reason(Family.STREAMER, "infer.exception", exception="ValueError", message=message)


def test_causes_are_counted_and_placed_in_time() -> None:
    """The most frequent first, each with its first and last time and its newest dead letter as the example."""
    causes = Causes()
    for number in range(5):
        causes.add(letter(ours(number, message=f"row {number}", timestamp_ms=TIME_MS + 1_000 * (3 - number))))
    causes.add(letter(ours(9, code=Code.INFER_NAN, pipeline="q")))
    causes.add(letter(ours(8, code=Code.INFER_NAN, timestamp_ms=None)))
    causes.add(letter(foreign(SPRING)))
    first, second, third = causes.by_count()
    assert (first.code, first.exception, first.message, first.count) == (
        "infer.exception",
        "ValueError",
        "row ‹n›",
        5,
    )
    assert (first.first_ms, first.last_ms) == (TIME_MS - 1_000, TIME_MS + 3_000)
    assert str(first.example) == "in.dlq/0/0"
    assert (second.code, second.count, second.pipelines) == ("infer.nan", 2, {"p", "q"})
    assert (second.first_ms, second.last_ms) == (TIME_MS, TIME_MS)
    assert third.code == "spring"


def test_a_cause_without_times_has_none() -> None:
    """A dead letter whose record has no timestamp still counts."""
    causes = Causes()
    causes.add(letter(ours(timestamp_ms=None)))
    (cause,) = causes.by_count()
    assert (cause.count, cause.first_ms, cause.last_ms, str(cause.example)) == (1, -1, -1, "in.dlq/0/0")


def test_a_timeline_stays_small_and_exact_in_sum() -> None:
    """However long it gets, it keeps at most 512 bins and loses no count."""
    timeline = Timeline()
    for second in range(100_000):
        timeline.add(second * 1_000)
    counts = timeline.counts(0, 99_999_000, 10)
    assert sum(counts) == 100_000
    assert all(abs(count - 10_000) <= 512 for count in counts)
    assert len(timeline._bins) <= 512


times = st.lists(st.integers(0, 10**12), min_size=1, max_size=50)


@given(times, st.integers(1, 40))
def test_every_count_has_a_part(found: list[int], parts: int) -> None:
    """The parts add up, also where all times are the same."""
    timeline = Timeline()
    for time_ms in found:
        timeline.add(time_ms)
    counts = timeline.counts(min(found), max(found), parts)
    assert (len(counts), sum(counts)) == (parts, len(found))


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_sparklines_rank_as_the_counts_do(counts: list[int]) -> None:
    """A higher count never has a lower bar, something is never nothing, and the highest is full."""
    bars = sparkline(counts)
    assert len(bars) == len(counts)
    height = {bar: rank for rank, bar in enumerate(" ▁▂▃▄▅▆▇█")}
    pairs = sorted(zip(counts, (height[bar] for bar in bars), strict=True))
    assert [rank for _, rank in pairs] == sorted(rank for _, rank in pairs)
    assert Counter(bars)[" "] == counts.count(0)
    if any(counts):
        assert bars[counts.index(max(counts))] == "█"
