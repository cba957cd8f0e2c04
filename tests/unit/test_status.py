"""What is said of a pipeline, of facts that are made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from streamer.cli.status import described, table
from streamer.core.report import Histogram
from streamer.ops.judgement import State
from streamer.ops.status import Status, status_of, worst_first
from tests.unit.test_judgement import GOOD, NOW_MS, OPEN, at, lag, series


def test_the_figures_of_the_last_minute() -> None:
    """Rates are those of ten seconds, dead letters those of a minute; what is older counts nowhere."""
    latency = Histogram([(10, 98), (1_000, 2)], 0, 700)
    old, early, late = at(NOW_MS - 70_000, results=900), at(NOW_MS - 50_000), at(NOW_MS - 1_000)
    early.results, early.dead_letters = 90, {"infer.nan": 1, "decode.json": 9}
    late.results, late.latency_ms = 100, latency
    found = status_of(replace(GOOD, lag=lag(50, 3.0, 1.0), series=series(old, early, late), replicas=[]))
    assert (found.rate, found.drain_s, found.members, found.partitions) == (10.0, 5.0, 1, 1)
    assert found.dead_letters == {"infer.nan": 1, "decode.json": 9} and found.dead_share == 10 / 200
    assert (found.p50_ms, found.p99_ms, found.model, found.revision) == (10, 700, "m", "r")
    assert (found.last_dead_letter, found.last_dead_letter_ms) == ("decode.json", NOW_MS - 50_000)
    without = status_of(replace(GOOD, lag=lag(50, 3.0, 2.0)))
    assert (without.rate, without.drain_s, without.dead_letters) == (2.0, 25.0, None)


def test_the_worst_stand_first() -> None:
    """By state, then by how long records wait."""
    found = [
        Status("a", State.NOT_READY, ["x"], lag_s=1),
        Status("b", State.NOT_READY, ["x"], lag_s=60),
        Status("c", State.HALTED, ["x"]),
        Status("d", State.STUCK, ["x"]),
    ]
    assert [each.pipeline for each in worst_first(found)] == ["c", "d", "b", "a"]


@pytest.mark.parametrize("width", [80, 140])
def test_people_see_names_and_reasons_whole(width: int) -> None:
    """Also where the terminal is narrow."""
    found = [
        status_of(replace(GOOD, name="reviews", lag=lag(1_234_567, 4_000.0, 0.0, OPEN))),
        status_of(replace(GOOD, name="sentiment", series=series(at(NOW_MS - 1_000, results=1)))),
    ]
    console = Console(width=width)
    with console.capture() as captured:
        grid, lines = table(found, NOW_MS, wide=width > 100)
        console.print(grid)
    shown = captured.get()
    assert "reviews " in shown and "sentiment" in shown and "1,234,567 (67 min)" in shown and "…" not in shown
    assert [line.plain for line in lines] == [f"reviews: {OPEN}"]
    assert described(found[0])["ok"] is False and described(found[0])["state"] == "stuck"
