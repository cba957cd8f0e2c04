"""The state of a pipeline, from values made by hand: `streamer status` and the console say the same."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from streamer.console.board import Situation, rows_json
from streamer.console.drivers import STALE_S, Driver
from streamer.core.report import Event, Model, Report
from streamer.core.standing import Reason, Standing
from streamer.errors import ExitCode
from streamer.ops.judgement import LATE_S, STANDING_MS, PipelineInfo, State, judge, level_of
from streamer.ops.lag import PartitionLag, PipelineLag
from streamer.ops.series import PipelineSeries
from streamer.ops.status import status_of
from streamer.telemetry.scrape import Replica
from tests.unit.test_tally import report

NOW_MS = 1_700_000_000_000
OPEN = Standing(("in", 0), 5, Reason.OPEN_TRANSACTION, "a producer is gone", "abort it")
HELD = Standing(("in", 1), 12, Reason.HELD, "its records ended three processes", "look at them")
LOADING = Replica("x", "p", ready=False, reasons=["no worker is ready", "no partition is assigned"])
READY = Replica("x", "p", ready=True)
SLOW = Replica("x", "p", ready=False, reasons=["Kafka is slow"])
DOWN = Replica("x", "p", ready=False, reasons=["pipeline p is down for good with exit code 6: it halted"])
MUTE = Replica("x", "p", ready=False)


def lag(records: int = 0, seconds: float | None = 0.0, rate: float | None = 0.0, *stands: Standing) -> PipelineLag:
    return PipelineLag("p", "g", [PartitionLag("in", 0, 0, records, records, seconds, rate, rate)], None, list(stands))


def at(time_ms: int, **fields: Any) -> Report:
    told = report(**fields)
    told.time_ms = time_ms
    return told


def ended(exit_code: int, reason: str = "why") -> Report:
    told = at(NOW_MS - 5_000)
    told.member, told.event = "a", Event("ended", {}, exit_code, reason)
    return told


def series(*reports: Report, known_ms: int | None = NOW_MS, grows: bool = False) -> PipelineSeries:
    found = PipelineSeries()
    for each in reports:
        found.add(each, NOW_MS)
    if known_ms is not None:
        found.know(known_ms)
    if grows:
        for second in range(0, 60, 10):
            found.note_lag(100 + second, 100.0 + second, NOW_MS - 60_000 + second * 1_000)
    return found


def settled(ago_ms: int, dead: int = 0) -> Report:
    return at(NOW_MS - ago_ms, results=5, dead_letters={"decode.json": dead} if dead else {})


def still(seconds: int) -> PipelineSeries:
    """Without reports, by looks at offsets that have not moved for so long."""
    found = series(known_ms=None)
    found.note_lag(7, 1.0, NOW_MS - seconds * 1_000, None)
    found.note_lag(7, 31.0, NOW_MS, 0.0)
    return found


BLANK = series(known_ms=None)
GOOD = PipelineInfo("p", "g", lag(), ["a"], [READY], BLANK, NOW_MS)
QUIET = series(known_ms=NOW_MS - STANDING_MS)


@pytest.mark.parametrize(
    ("what", "state", "why"),
    [
        ({}, State.IDLE, ""),
        ({"replicas": []}, State.IDLE, ""),
        ({"members": None}, State.IDLE, ""),
        ({"lag": "topic in does not exist"}, State.UNKNOWN, "topic in does not exist"),
        ({"lag": "no right to Describe group g", "members": []}, State.UNKNOWN, "no right"),
        ({"lag": None}, State.UNKNOWN, "neither its reports nor its offsets say anything about it"),
        ({"lag": None, "series": series(settled(3_000))}, State.WORKING, ""),
        ({"lag": None, "series": series(settled(30_000))}, State.UNKNOWN, "no report tells of records"),
        # What ended by itself.
        ({"replicas": [DOWN]}, State.HALTED, "down for good"),
        ({"replicas": [DOWN], "lag": "topic in does not exist"}, State.HALTED, "down for good"),
        ({"members": [], "series": series(ended(ExitCode.HALTED))}, State.HALTED, "it halted: why; correct that"),
        ({"members": ["a"], "series": series(ended(ExitCode.HALTED))}, State.HALTED, "it halted: why; correct that"),
        (
            {"members": [], "series": series(ended(ExitCode.HALTED)), "lag": lag(3, 1.0, 0.0, HELD)},
            State.HALTED,
            "look at them",
        ),
        ({"members": ["b"], "series": series(ended(ExitCode.HALTED))}, State.IDLE, ""),
        # Nobody can see who is there: what was said last counts, unless a driver answers.
        ({"members": None, "replicas": [], "series": series(ended(ExitCode.HALTED))}, State.HALTED, "it halted: why"),
        ({"members": None, "series": series(ended(ExitCode.HALTED))}, State.IDLE, ""),
        (
            {"members": None, "replicas": [], "series": series(ended(ExitCode.HALTED)), "lag": None},
            State.HALTED,
            "it halted: why",
        ),
        (
            {"members": [], "replicas": [], "series": series(ended(ExitCode.HALTED)), "lag": "topic in is gone"},
            State.HALTED,
            "topic in is gone",
        ),
        (  # It was started again, and says so once it has its model.
            {"members": [], "series": series(ended(ExitCode.HALTED)), "replicas": [LOADING]},
            State.LOADING,
            "ended with exit code 6: why",
        ),
        # What stands.
        ({"lag": lag(3, 1.0, 9.0, OPEN)}, State.STUCK, "abort it"),
        ({"lag": lag(3, 1.0, 9.0, HELD)}, State.STUCK, "look at them"),
        ({"lag": lag(3, 1.0, 0.0, OPEN), "members": [], "replicas": []}, State.STUCK, "start `streamer run"),
        ({"lag": lag(3, 1.0, 0.0, OPEN), "replicas": [LOADING]}, State.STUCK, "abort it"),
        # Who is there.
        ({"members": [], "replicas": []}, State.NO_MEMBER, "start `streamer run --pipeline p`"),
        ({"members": []}, State.NO_MEMBER, "start `streamer run --pipeline p`"),
        ({"members": [], "replicas": [], "lag": lag(7, 90.0)}, State.NO_MEMBER, "7 records are waiting"),
        ({"members": [], "replicas": [], "lag": lag(1, 90.0)}, State.NO_MEMBER, "1 record is waiting"),
        # The clock of its producer is ahead.
        ({"members": [], "replicas": [], "lag": lag(2, 0.0)}, State.NO_MEMBER, "2 records are waiting; start"),
        ({"members": [], "replicas": [], "series": series(ended(5, "gone"))}, State.NO_MEMBER, "exit code 5: gone"),
        ({"replicas": [], "series": series(ended(0))}, State.NO_MEMBER, "ended with exit code 0: why"),
        # Its slot is another process's, which said that it started before this one heard of it.
        ({"replicas": [], "series": series(ended(ExitCode.FENCED))}, State.IDLE, ""),
        ({"members": [], "replicas": [], "series": series(ended(ExitCode.FENCED))}, State.NO_MEMBER, "exit code 7"),
        # What drivers say.
        ({"members": [], "replicas": [LOADING]}, State.LOADING, "is being loaded"),
        ({"members": None, "replicas": [LOADING], "lag": "no right"}, State.LOADING, "no right"),
        ({"replicas": [LOADING]}, State.LOADING, "no worker is ready"),
        ({"replicas": [LOADING, READY]}, State.NOT_READY, "no worker is ready"),
        ({"replicas": [LOADING, SLOW], "members": []}, State.NOT_READY, "Kafka is slow"),
        ({"replicas": [LOADING], "lag": lag(4, 40.0)}, State.LOADING, "no worker is ready"),
        ({"replicas": [LOADING], "lag": lag(4, 40.0), "series": QUIET}, State.STUCK, "no worker is ready"),
        ({"replicas": [SLOW]}, State.NOT_READY, "Kafka is slow"),
        ({"replicas": [SLOW], "members": []}, State.NOT_READY, "Kafka is slow"),
        ({"replicas": [SLOW], "lag": "topic in does not exist"}, State.NOT_READY, "topic in does not exist"),
        ({"replicas": [MUTE]}, State.NOT_READY, "a driver says that it is not ready"),
        # Records that wait.
        ({"lag": lag(7, 10.0)}, State.WORKING, ""),
        ({"lag": lag(7, 31.0)}, State.UNKNOWN, "7 records are waiting, the oldest for 31.0 s, and it is not known yet"),
        ({"lag": lag(7, 31.0), "series": still(29)}, State.UNKNOWN, "it is not known yet"),
        ({"lag": lag(7, 31.0), "series": still(30)}, State.STUCK, "the settled offsets do not move"),
        ({"lag": lag(7, 31.0, 1.0), "series": still(30)}, State.WORKING, ""),
        ({"lag": lag(7, None)}, State.UNKNOWN, "7 records are waiting"),
        ({"lag": lag(7, None), "series": QUIET}, State.STUCK, "7 records are waiting"),
        ({"lag": lag(7, 31.0, None)}, State.UNKNOWN, "7 records are waiting"),
        ({"lag": lag(7, 61.0, None)}, State.UNKNOWN, "it is not known yet whether they are settled"),
        ({"lag": lag(7, 31.0, None), "series": QUIET}, State.STUCK, "nothing is being settled"),
        ({"lag": lag(7, 31.0, 0.5)}, State.WORKING, ""),
        ({"lag": lag(7, 61.0, 0.5)}, State.BEHIND, ""),
        ({"lag": lag(7, 61.0), "series": series(settled(29_000))}, State.BEHIND, ""),
        ({"lag": lag(7, 31.0), "series": series(settled(29_000))}, State.WORKING, ""),
        ({"lag": lag(7, 31.0), "series": series(settled(STANDING_MS))}, State.STUCK, "nothing is being settled"),
        ({"lag": lag(7, 31.0, 5.0), "series": series(settled(STANDING_MS))}, State.WORKING, ""),
        ({"lag": lag(1, 0.3), "series": series(settled(3_600_000))}, State.WORKING, ""),
        ({"lag": lag(150, 150.0), "series": series(settled(3_000), grows=True)}, State.FALLING_BEHIND, "getting older"),
        ({"lag": lag(4, 2.0), "series": series(settled(3_000), grows=True)}, State.WORKING, ""),
        ({"lag": lag(4, 2.0), "series": series(settled(3_000, 1))}, State.DEAD_LETTERS, "16.7 % of the outcomes"),
        ({"series": series(settled(280_000, 1))}, State.DEAD_LETTERS, "dlq causes"),
        ({"series": series(settled(330_000, 1))}, State.IDLE, ""),
        ({"series": series(settled(3_000))}, State.WORKING, ""),
    ],
)
def test_the_state_and_why(what: dict[str, Any], state: State, why: str) -> None:
    """Whatever is wrong is named, with what to do about it."""
    verdict = judge(replace(GOOD, **what))
    assert verdict.state is state and why in "; ".join(map(str, verdict.problems))


LAGS = [
    None,
    "topic in does not exist",
    lag(),
    *(lag(7, seconds, rate) for seconds in (2.0, 40.0, 90.0, None) for rate in (None, 0.0, 3.0)),
    lag(7, 90.0, 0.0, OPEN),
    lag(7, 90.0, 3.0, OPEN, HELD),
]
MEMBERS: list[list[str] | None] = [None, [], ["a"], ["a", "b"]]
DRIVERS = [[], [READY], [LOADING], [LOADING, LOADING], [LOADING, READY], [SLOW], [SLOW, LOADING], [DOWN], [MUTE]]
SERIES = [
    BLANK,
    series(),
    QUIET,
    still(40),
    series(settled(3_000)),
    series(settled(3_000, 1), grows=True),
    series(settled(40_000), grows=True),
    series(ended(ExitCode.HALTED)),
    series(settled(3_000), ended(5)),
]


def test_all_that_can_come_together() -> None:
    """Whatever is known: only what needs nobody has no problem, nothing that is wrong is passed over, and nothing is
    said that nobody knows. Both commands show the same."""
    found = set()
    for each in itertools.product(LAGS, MEMBERS, DRIVERS, SERIES):
        info = PipelineInfo("p", "g", *each, NOW_MS)
        verdict, known = judge(info), info.known_lag
        state, reasons = verdict.state, [reason for driver in info.replicas for reason in driver.reasons]
        found.add(state)
        well = level_of(state) == "ok"
        assert well is (not verdict.problems), each
        status = status_of(info)
        (row,) = rows_json([Situation(info, None)], reached=True, now_ms=NOW_MS)
        assert (status.state, status.is_well) == (row["state"], row["level"] == "ok") == (state, well), each
        assert status.why == [f"{one['what']}{'; ' if one['fix'] else ''}{one['fix']}" for one in row["problems"]]
        if isinstance(info.lag, str):
            assert not well and any(info.lag in one.what for one in verdict.problems), each
        if any(driver.ready is False for driver in info.replicas):
            assert not well and state not in (State.NO_MEMBER, State.UNKNOWN), each
        if any("down for good" in reason for reason in reasons):
            assert state is State.HALTED, each
        if known is not None and known.standing:
            assert state in (State.STUCK, State.HALTED) and len(verdict.problems) >= len(known.standing), each
        if known is not None and info.living == 0:
            assert not well, each
        if state is State.LOADING:
            assert all("no worker is ready" in driver.reasons for driver in info.replicas), each
        if state is State.IDLE:
            assert known is not None and not known.records, each
        if state is State.NO_MEMBER:
            assert info.members == [] or info.series.ended is not None, each
        if state is State.STUCK and known is not None and not known.standing:
            assert known.records and not known.rate_out and (known.seconds is None or known.seconds >= 30), each
        if state in (State.BEHIND, State.FALLING_BEHIND):
            assert known is not None and (known.seconds is None or known.seconds >= LATE_S), each
    assert found == set(State)


@pytest.mark.parametrize(("members", "state"), [([], "no member"), (["b"], "working")])
def test_how_the_last_member_ended_is_told_until_one_starts(members: list[str], state: str) -> None:
    """A member that starts makes an end history."""
    told = ended(ExitCode.HALTED)
    info = replace(GOOD, replicas=[], members=members, lag=lag(4, 2.0), series=series(settled(15_000), told))
    assert judge(info).state == ("working" if members else "halted")
    told.event = Event("started")
    info.series.add(told, NOW_MS)
    assert judge(info).state == state


def test_a_driver_that_is_gone_is_not_asked_how_it_was() -> None:
    """The console keeps the last word of one that is silent, and judges by those that answer."""
    gone = Driver(SLOW, None, silent_s=STALE_S + 1)
    (row,) = rows_json([Situation(replace(GOOD, replicas=[]), None, [gone])], reached=True, now_ms=NOW_MS)
    assert (row["state"], row["silent_s"]) == ("idle", STALE_S + 1)


def test_what_is_known_of_a_pipeline_stays_bounded() -> None:
    """However many reports come, and however many members end."""
    found = PipelineSeries()
    for number in range(3_000):
        told = ended(0)
        told.member = f"host-{number}"
        found.add(told, NOW_MS)
    assert len(found.gone) <= 1_000 and "host-2999" in found.gone
    assert found.model == Model("m", "r")
