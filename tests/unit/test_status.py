"""What is said of a pipeline, of facts that are made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from streamer.cli.status import described, table
from streamer.core.report import Event, Histogram, Report
from streamer.core.standing import Reason, Standing
from streamer.errors import ExitCode
from streamer.ops.lag import PartitionLag, PipelineLag
from streamer.ops.status import Facts, Recent, State, Status, judge, status_of, worst_first
from streamer.telemetry.scrape import Replica
from tests.unit.test_tally import report

NOW_MS = 1_000_000
STUCK = Standing(("in", 0), 5, Reason.OPEN_TRANSACTION, "a producer is gone", "abort it")
LOADING = Replica("x", "p", ready=False, reasons=["no worker is ready", "no partition is assigned"])
READY = Replica("x", "p", ready=True)
DOWN = Replica("x", "p", ready=False, reasons=["pipeline p is down for good with exit code 6: it halted"])


def lag(records: int = 0, seconds: float | None = 0.0, rate: float | None = 0.0, *stands: Standing) -> PipelineLag:
    return PipelineLag("p", "g", [PartitionLag("in", 0, 0, records, records, seconds, rate, rate)], None, list(stands))


def at(time_ms: int, **fields: Any) -> Report:
    told = report(**fields)
    told.time_ms = time_ms
    return told


def recent(*reports: Report) -> Recent:
    found = Recent()
    for each in reports:
        found.add(each)
    return found


def ended(exit_code: int, reason: str = "why") -> Report:
    told = at(NOW_MS - 5_000)
    told.member, told.event = "a", Event("ended", {}, exit_code, reason)
    return told


GOOD = Facts("p", "g", lag(), {"a": 1}, [READY], None, NOW_MS)


@pytest.mark.parametrize(
    ("what", "state", "why"),
    [
        ({}, State.RUNNING, ""),
        ({"replicas": []}, State.RUNNING, ""),
        ({"members": None}, State.RUNNING, ""),
        ({"lag": "topic in does not exist"}, State.UNKNOWN, "topic in does not exist"),
        ({"replicas": [DOWN]}, State.HALTED, "down for good"),
        ({"members": {}, "recent": recent(ended(ExitCode.HALTED))}, State.HALTED, "it halted: why"),
        ({"members": {"b": 1}, "recent": recent(ended(ExitCode.HALTED))}, State.RUNNING, ""),
        ({"lag": lag(3, 1.0, 9.0, STUCK)}, State.STUCK, "abort it"),
        ({"lag": lag(3, 1.0, 0.0, STUCK), "members": {}, "replicas": []}, State.STUCK, "abort it"),
        ({"members": {}, "replicas": []}, State.NO_MEMBER, "start `streamer run --pipeline p`"),
        ({"members": {}, "replicas": [], "lag": lag(7, 90.0)}, State.NO_MEMBER, "7 records wait"),
        ({"members": {}, "replicas": [], "recent": recent(ended(5, "gone"))}, State.NO_MEMBER, "exit code 5: gone"),
        ({"replicas": [], "recent": recent(ended(0))}, State.NO_MEMBER, "ended with exit code 0: why"),
        ({"members": {}, "replicas": [LOADING]}, State.LOADING, "is being loaded"),
        ({"replicas": [LOADING]}, State.LOADING, "no worker is ready"),
        ({"replicas": [replace(READY, ready=False, reasons=["Kafka is slow"])]}, State.NOT_READY, "Kafka is slow"),
        ({"lag": lag(7, 10.0)}, State.RUNNING, ""),
        ({"lag": lag(7, 31.0)}, State.STUCK, "7 records wait, the oldest for 31.0 s, and nothing is being settled"),
        ({"lag": lag(7, None)}, State.STUCK, "7 records wait"),
        ({"lag": lag(7, 31.0, None)}, State.STUCK, "7 records wait"),
        ({"lag": lag(7, 31.0, 0.5)}, State.RUNNING, ""),
        ({"lag": lag(7, 31.0), "recent": recent(at(NOW_MS - 29_000, results=1))}, State.RUNNING, ""),
        ({"lag": lag(7, 31.0), "recent": recent(at(NOW_MS - 31_000, results=1))}, State.STUCK, "7 records wait"),
    ],
)
def test_the_state_and_why(what: dict[str, Any], state: State, why: str) -> None:
    """Whatever is wrong is named; records that wait and are not answered are never well."""
    found, reasons = judge(replace(GOOD, **what))
    assert found is state and why in "; ".join(reasons)
    assert bool(reasons) is (state is not State.RUNNING)
    assert status_of(replace(GOOD, **what)).is_well is (state is State.RUNNING)


def test_the_figures_of_the_last_minute() -> None:
    """Rates are those of ten seconds, dead letters those of a minute; what is older counts nowhere."""
    latency = Histogram([(10, 98), (1_000, 2)], 0, 700)
    old, early, late = at(NOW_MS - 70_000, results=900), at(NOW_MS - 50_000), at(NOW_MS - 1_000)
    early.results, early.dead_letters = 90, {"infer.nan": 1, "decode.json": 9}
    late.results, late.latency_ms = 100, latency
    found = status_of(replace(GOOD, lag=lag(50, 3.0, 1.0), recent=recent(old, early, late), replicas=[]))
    assert (found.rate, found.drain_s, found.members, found.partitions) == (10.0, 5.0, 1, 1)
    assert found.dead_letters == {"infer.nan": 1, "decode.json": 9} and found.dead_share == 10 / 200
    assert (found.p50_ms, found.p99_ms, found.model, found.revision) == (10, 700, "m", "r")
    assert (found.last_dead_letter, found.last_dead_letter_ms) == ("decode.json", NOW_MS - 50_000)
    without = status_of(replace(GOOD, lag=lag(50, 3.0, 2.0)))
    assert (without.rate, without.drain_s, without.dead_letters) == (2.0, 25.0, None)


def test_the_worst_stand_first() -> None:
    """By state, then by how long records wait."""
    found = [
        Status("a", State.RUNNING, [], lag_s=1),
        Status("b", State.RUNNING, [], lag_s=60),
        Status("c", State.HALTED, ["x"]),
        Status("d", State.STUCK, ["x"]),
    ]
    assert [each.pipeline for each in worst_first(found)] == ["c", "d", "b", "a"]


@pytest.mark.parametrize("width", [80, 140])
def test_people_see_names_and_reasons_whole(width: int) -> None:
    """Also where the terminal is narrow."""
    found = [
        status_of(replace(GOOD, name="reviews", lag=lag(1_234_567, 4_000.0, 0.0, STUCK))),
        status_of(replace(GOOD, name="sentiment", recent=recent(at(NOW_MS - 1_000, results=1)))),
    ]
    console = Console(width=width)
    with console.capture() as captured:
        grid, lines = table(found, NOW_MS, wide=width > 100)
        console.print(grid)
    shown = captured.get()
    assert "reviews " in shown and "sentiment" in shown and "1,234,567 (67 min)" in shown and "…" not in shown
    assert [line.plain for line in lines] == [f"reviews: {STUCK}"]
    assert described(found[0])["ok"] is False and described(found[0])["state"] == "stuck"
