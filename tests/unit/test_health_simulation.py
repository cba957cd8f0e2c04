"""A smaller run of `streamer bench drift`: days without drift are quiet, and ten kinds of drift are found and named."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from streamer.bench.drift import power, quiet_day, shifted_day
from streamer.bench.drift_stream import SHIFTS
from streamer.cli.bench import bench
from streamer.core.health.drift import needed_of


def test_the_command_prints_what_was_asked() -> None:
    """Nothing was, in no time."""
    result = CliRunner().invoke(bench, ["drift", "--seeds", "0", "--shifts", "0", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sections"] == []


@pytest.mark.promise(13)
def test_days_without_drift_are_quiet() -> None:
    """Four mornings are allowed a thirtieth of an alarm. Without the design effect they raise two dozen."""
    quiet = [quiet_day(seed, monthly=(1.0,), days=3, hours=6) for seed in range(4)]
    assert sum(day.alarms[1.0] for day in quiet) == 0


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
