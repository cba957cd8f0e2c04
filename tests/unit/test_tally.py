"""What is settled is counted once, and told in words."""

from __future__ import annotations

from collections import Counter

import pytest

from streamer.core.pipeline.protocol import Settled, Unsettled
from streamer.core.report import Report
from streamer.core.tally import Tally, Vitals, is_durable, live_words, places
from tests.health_kit import histogram
from tests.health_kit import report as report_of


def report(
    results: int = 0,
    dead_letters: dict[str, int] | None = None,
    skipped: dict[str, int] | None = None,
    *,
    cached: int = 0,
    ranges: list[tuple[str, int, int, int]] | None = None,
) -> Report:
    return report_of(
        0,
        revision="r",
        results=results,
        dead_letters=dead_letters or {},
        skipped=skipped or {},
        cached=cached,
        tokens=0,
        latency_ms=histogram(),
        text_chars=histogram(),
        ranges=ranges or [],
    )


RANGES = [("in", 0, 5, 9), ("in", 1, 0, 3)]


@pytest.mark.parametrize(
    ("committed", "durable"),
    [
        ({("in", 0): 10, ("in", 1): 4}, True),
        ({("in", 0): 12, ("in", 1): 4}, True),
        ({("in", 0): 5, ("in", 1): 0}, False),
        ({("in", 0): 10}, False),
        ({("in", 0): 9, ("in", 1): 4}, False),
        ({}, False),
    ],
)
def test_a_commit_without_an_answer_counts_where_its_offsets_say_so(
    committed: dict[tuple[str, int], int], durable: bool
) -> None:
    """Behind the last record of each partition it took effect; else the plan is made again and counts then."""
    assert is_durable(Unsettled(1, "rebuild", committed), report(ranges=RANGES)) is durable


def test_what_was_settled_counts() -> None:
    """Without offsets, too."""
    assert is_durable(Settled(1), report(ranges=RANGES))
    assert not is_durable(Unsettled(1, "abort"), report())


def test_what_came_since() -> None:
    """Each kind by itself; the earlier tally stays as it was."""
    tally = Tally()
    tally.add(report(5, {"decode.json": 1}, {"replayed": 2}, cached=3))
    before = tally.copy()
    tally.add(report(2, {"decode.json": 1, "infer.nan": 4}))
    assert (before.records, tally.records) == (8, 15)
    lately = tally.since(before)
    assert (lately.results, lately.cached) == (2, 0)
    assert lately.dead_letters == Counter({"infer.nan": 4, "decode.json": 1}) and not lately.skipped
    assert str(tally) == ("7 results (3 cached), 6 dead letters (infer.nan 4, decode.json 2), 2 skipped (replayed 2)")
    assert str(Tally(results=1, dead_letters=Counter({"infer.nan": 1}))) == (
        "1 result, 1 dead letter (infer.nan 1), 0 skipped"
    )


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([], "none"), ([3], "in/3"), ([2, 0, 1, 5], "in/0-2,5"), ([0, 2, 4, 6, 8, 10, 12], "in/0,2,4,6,8,10,…")],
)
def test_partitions_in_a_few_words(numbers: list[int], words: str) -> None:
    """Those that follow one another are a range."""
    assert places(("in", number) for number in numbers) == words


def test_the_live_line_of_one_and_of_several() -> None:
    """Of several it is the sum, the worst lag by time, and who waits for what."""
    busy = Vitals("", 0.0, 1_234.4, 5_000, 4.2, 1)
    assert live_words({"p": busy}) == "p: 1,234 results/s · 5,000 behind (4.2 s) · 1 dead letter"
    loading = Vitals("the model to load", 7.2)
    assert live_words({"p": loading}) == "p: waiting for the model to load (7 s)"
    assert live_words({"p": busy, "q": busy, "r": loading}) == (
        "2 of 3 pipelines running · 2,469 results/s · 10,000 behind (4.2 s) · 2 dead letters"
        " · r waits for the model to load (7 s)"
    )
