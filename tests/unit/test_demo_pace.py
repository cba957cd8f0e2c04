"""The demo sends as fast as the machine can bear, whatever machine that is."""

from __future__ import annotations

import pytest

from streamer.demo.pace import LIVE_S, LONG_ENOUGH_S, Burst, Course, course, next_burst


def played(records: int, per_s: float, overhead_s: float = 0.1, first_s: float = 0.0) -> tuple[list[Burst], Course]:
    """The bursts and the course on a machine that answers `per_s` records a second, some seconds later for each
    burst, and for the first one some more."""
    bursts: list[Burst] = []
    while size := next_burst(bursts, records):
        bursts.append(Burst(size, size / per_s + overhead_s + (0.0 if bursts else first_s)))
    return bursts, course(bursts, 1 + sum(burst.records for burst in bursts), records)


@pytest.mark.parametrize("per_s", [5.0, 40.0, 400.0, 4_000.0, 1e6])
@pytest.mark.parametrize("records", [45, 315, 3_015])
def test_every_record_is_sent_once(records: int, per_s: float) -> None:
    """What measures, the live traffic and the last burst follow each other, and are all that there is."""
    bursts, found = played(records, per_s)
    measured = sum(burst.records for burst in bursts)
    assert measured <= records / 3
    assert found.live == range(1 + measured, found.burst.start)
    assert found.burst.stop == records
    assert len(found.burst) >= len(found.live) > 0


@pytest.mark.parametrize("per_s", [5.0, 40.0, 400.0])
def test_live_traffic_is_at_most_half_of_what_the_machine_bears(per_s: float) -> None:
    """Not so little either that nothing would be shown."""
    bursts, found = played(3_015, per_s)
    assert per_s / 4 <= found.live_per_s <= per_s / 2
    assert found.capacity_per_s == round(bursts[-1].per_s, 1)
    assert len(found.live) <= found.live_per_s * LIVE_S


def test_a_cold_start_is_no_measure() -> None:
    """The first bursts wait for first forward passes; the rate of the last one counts."""
    _, cold = played(3_015, 400.0, first_s=20.0)
    _, warm = played(3_015, 400.0)
    assert cold == warm


def test_a_slow_machine_measures_no_longer_than_it_must() -> None:
    """Three bursts are enough where the last takes a second."""
    bursts, _ = played(3_015, 40.0)
    assert [burst.records for burst in bursts] == [32, 64, 128]
    assert bursts[-1].seconds >= LONG_ENOUGH_S


def test_no_time_at_all_is_no_error() -> None:
    """A clock that stands gives a rate that is high, and finite."""
    found = course([Burst(128, 0.0)], 225, 3_015)
    assert len(found.live) == (3_015 - 225) // 2
