"""The demo sends as fast as the machine can bear, whatever machine that is."""

from __future__ import annotations

import pytest

from streamer.demo.pace import LIVE_S, LONG_ENOUGH_S, UNDER_WAY, WARM_UP, Course, Gauge, course


def played(records: int, per_s: float, overhead_s: float = 0.1, first_s: float = 0.0) -> tuple[list[float], Course]:
    """When each record ended that measured, and the course, on a machine that answers one record after the other,
    `per_s` a second, and shows each answer some seconds later; the first one takes some more."""
    gauge, now_s, free_s, ends = Gauge(records, 0.0), 0.0, first_s, list[float]()
    while True:
        due = gauge.due(sum(end <= now_s for end in ends), now_s)
        if gauge.per_s is not None:
            return ends, course(gauge.per_s, 1 + len(ends), records)
        while len(ends) < due:
            free_s = max(free_s, now_s) + 1 / per_s
            ends.append(free_s + overhead_s)
        now_s = min(end for end in ends if end > now_s)


@pytest.mark.parametrize("per_s", [5.0, 40.0, 400.0, 4_000.0, 1e6])
@pytest.mark.parametrize("records", [45, 315, 3_015])
def test_every_record_is_sent_once(records: int, per_s: float) -> None:
    """What measures, the live traffic and the last burst follow each other, and are all that there is."""
    ends, found = played(records, per_s)
    assert len(ends) <= records / 3
    assert found.live == range(1 + len(ends), found.burst.start)
    assert found.burst.stop == records
    assert len(found.burst) >= len(found.live) > 0


@pytest.mark.parametrize("per_s", [5.0, 40.0, 400.0])
def test_live_traffic_is_at_most_half_of_what_the_machine_bears(per_s: float) -> None:
    """Not so little either that nothing would be shown."""
    _, found = played(3_015, per_s)
    assert per_s / 4 <= found.live_per_s <= per_s / 2
    assert found.live_per_s == int(found.capacity_per_s / 2)
    assert len(found.live) <= found.live_per_s * LIVE_S


@pytest.mark.parametrize("overhead_s", [0.2, 0.4])
def test_no_more_are_under_way_than_live_traffic_would_have(overhead_s: float) -> None:
    """What a pipeline answers in large batches alone is no capacity: a few records under way wait for transactions."""
    _, found = played(3_015, 1e6, overhead_s)
    assert found.capacity_per_s == pytest.approx(UNDER_WAY / overhead_s, rel=0.05)


def test_a_cold_start_is_no_measure() -> None:
    """The first records wait for first forward passes; the rate after them counts."""
    _, cold = played(3_015, 200.0, first_s=20.0)
    _, warm = played(3_015, 200.0)
    assert cold.capacity_per_s == pytest.approx(warm.capacity_per_s, rel=0.02)


def test_a_slow_machine_measures_no_longer_than_it_must() -> None:
    """Two seconds after the first records, and as many records as are under way, are enough."""
    ends, found = played(3_015, 40.0)
    assert found.capacity_per_s == pytest.approx(40.0, rel=0.02)
    assert len(ends) <= WARM_UP + 40 * LONG_ENOUGH_S + UNDER_WAY + 1
    ends, _ = played(3_015, 5.0)
    assert len(ends) <= WARM_UP + 2 * UNDER_WAY + 1


def test_no_time_at_all_is_no_error() -> None:
    """A clock that stands gives a rate that is high, and finite."""
    gauge = Gauge(3_015, 0.0)
    sent = ended = 0
    while gauge.per_s is None:
        ended, sent = sent, gauge.due(sent, 0.0)
    found = course(gauge.per_s, 1 + ended, 3_015)
    assert len(found.live) == (3_015 - 1 - ended) // 2
