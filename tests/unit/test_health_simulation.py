"""A smaller run of `streamer bench drift`: days without drift are quiet, and ten kinds of drift are found and named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.bench.drift import USUAL_RECORDS, baseline_of, power, quiet_day, shifted_day
from streamer.bench.harness.drift_stream import A_DAY, SHIFTS, WINDOW_MS, Stream
from streamer.cli import main
from streamer.core.health.alerts.judged import Judged
from streamer.core.health.drift.deviation import needed_of
from streamer.core.health.words import VERSION, BaselineWord


def test_the_command_prints_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was, in no time."""
    assert main(["bench", "drift", "--seeds", "0", "--shifts", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sections"] == []


@pytest.mark.promise(13)
def test_days_without_drift_are_quiet() -> None:
    """Four mornings are allowed a thirtieth of an alarm. Without the design effect they raise two dozen."""
    quiet = [quiet_day(seed, monthly=(1.0,), days=3, hours=6) for seed in range(4)]
    assert sum(day.alarms[1.0] for day in quiet) == 0


@pytest.mark.parametrize(("hours", "steady"), [(5, False), (5, True), (24, False)])
def test_a_baseline_of_a_morning_takes_no_evening_for_drift(hours: int, steady: bool) -> None:
    """On a day whose traffic has a tide, it raises dozens of alarms where it is believed, as here by who calls the
    traffic steady. A day's baseline raises none by itself."""
    stream = Stream(0, USUAL_RECORDS, tide=0.3)
    baseline = baseline_of(stream.windows(0, hours * 12))
    known = BaselineWord(
        version=VERSION, pipeline="simulated", revision="r1", model="m", saved_ms=1, length_ms=WINDOW_MS, records=1,
        baseline=baseline, steady=steady,
    )  # fmt: skip
    judged, alarms, doubted, before = Judged("simulated", "r1", 1), 0, set[str](), set[str]()
    windows: list[Any] = stream.windows(hours * 12, A_DAY)
    for window in windows:
        judged.look(window, known, None, 1.0)
        now = {one.monitor for one in judged.findings if one.state == "drift"}
        alarms, before = alarms + len(now - before), now
        doubted |= {*judged.unsure}
        assert all("hour of the day" in one.what for one in judged.findings if one.monitor in judged.unsure)
    assert (alarms > 5) == steady
    assert (alarms == 0) == (not steady)
    assert bool(doubted) == (hours == 5 and not steady)


@pytest.mark.promise(13)
def test_each_kind_of_drift_is_found_within_two_windows_and_named() -> None:
    """In windows of 1,500 records, of which each micro-batch of 50 is alike."""
    found = shifted_day(1)
    assert {shift: found.named[shift] for shift in SHIFTS} == {shift: monitor for shift, (monitor, _) in SHIFTS.items()}
    assert set(found.of_few) == {"insufficient"}


def test_as_many_records_as_are_needed_find_a_psi_of_a_tenth() -> None:
    """In three cases of four, whatever the number of bins; half as many do not."""
    for bins in (2, 10):
        assert power(bins, needed_of(bins), 0.1, tries=120) > 0.6
        assert power(bins, needed_of(bins) // 2, 0.1, tries=120) < 0.4
