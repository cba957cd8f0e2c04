"""How many replicas a pipeline needs: of what the brokers tell, and of what its reports have taught."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.capacity import WINDOW_MS, Capacity
from streamer.core.onlooker import View
from streamer.core.report import Event, Histogram, Report
from streamer.core.scaling import RATE_S, Arrivals, Backlog, Wish, backlog_of, replicas, wish_of
from tests.health_kit import report as report_of

HELD = '{"by":["a","b","c"],"at":1,"held":true}'
counts = st.floats(0, 1e15)
rates = st.floats(0, 1e12)
backlogs = st.builds(
    Backlog,
    partitions=st.integers(0, 10_000),
    records=st.just(0.0) | st.floats(1, 1e15),
    arriving=rates,
    stuck=st.integers(0, 10**15),
    opened=st.booleans(),
)
wishes = st.builds(
    Wish,
    pipeline=st.just("p"),
    drain_s=st.floats(1, 1e9),
    max_records=st.just(0.0) | st.floats(1, 1e15),
    max_replicas=st.sampled_from([0.0, 1.0, 7.0]),
    cooldown_s=st.floats(0, 1e6),
)
capacities = st.none() | st.floats(1e-300, 1e12, exclude_min=True)


@given(backlogs, wishes, capacities, st.floats(0, math.inf))
def test_there_is_always_an_answer_within_bounds(
    backlog: Backlog, wish: Wish, capacity: float | None, quiet_s: float
) -> None:
    """None if and only if nothing waits and nothing keeps it; never more than there are partitions, or are allowed."""
    found = replicas(backlog, wish, capacity, quiet_s)
    kept = backlog.opened and quiet_s < wish.cooldown_s
    assert (found == 0) == (not backlog.records and not backlog.stuck and not kept)
    assert found <= max(min(backlog.partitions, wish.max_replicas or math.inf), 1)


@given(backlogs, wishes, capacities, st.floats(0, 1e9), counts, rates)
def test_more_work_never_needs_fewer(
    backlog: Backlog, wish: Wish, capacity: float | None, quiet_s: float, more: float, faster: float
) -> None:
    """Of records that wait and of records that arrive alike."""
    worse = Backlog(
        backlog.partitions,
        backlog.records + (more if backlog.records or more >= 1 else 0),
        backlog.arriving + faster,
        backlog.stuck,
        backlog.opened,
    )
    assert replicas(backlog, wish, capacity, quiet_s) <= replicas(worse, wish, capacity, quiet_s)


@pytest.mark.parametrize(
    ("records", "arriving", "capacity", "wish", "expected"),
    [
        (1, 0.0, 100.0, Wish("p"), 1),
        (6_000, 0.0, 100.0, Wish("p"), 1),
        (6_001, 0.0, 100.0, Wish("p"), 2),
        (6_000, 250.0, 100.0, Wish("p"), 4),  # what arrives needs two and a half
        (10, 250.0, 100.0, Wish("p"), 3),  # caught up: as many as keep it so
        (6_000, 0.0, 100.0, Wish("p", drain_s=10), 6),
        (10**9, 0.0, 100.0, Wish("p"), 8),
        (10**9, 0.0, 100.0, Wish("p", max_replicas=5), 5),
        (10**9, 0.0, None, Wish("p"), 1),  # the first replica teaches what one can do
        (5_000, 0.0, None, Wish("p", max_records=2_000), 3),
        (6_000, 250.0, 100.0, Wish("p", max_records=2_000), 4),
    ],
)
def test_replicas_settle_what_waits_and_what_arrives(
    records: int, arriving: float, capacity: float | None, wish: Wish, expected: int
) -> None:
    """Within the drain time that is wanted."""
    assert replicas(Backlog(8, records, arriving), wish, capacity, 0.0) == expected


def test_an_open_transaction_keeps_a_pipeline_for_a_while_and_wakes_none() -> None:
    """Its records can't be read yet; a producer that hangs costs no replica for ever."""
    opened = Backlog(3, opened=True)
    assert [replicas(opened, Wish("p"), None, quiet_s) for quiet_s in (0.0, 59.0, 60.0, math.inf)] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([View(("t", 0), 0, 10, 10, 4, 4, first_ms=1)], Backlog(1, 6)),
        ([View(("t", 0), 0, 10, 10, 9, 9)], Backlog(1)),  # a marker
        ([View(("t", 0), 7, 7, 7, 7)], Backlog(1)),  # deleted, and no offset
        ([View(("t", 0), 0, 4, 9, 4, 4, open_ms=1)], Backlog(1, opened=True)),
        ([View(("t", 0), 0, 4, 9, 2, 2, first_ms=1, open_ms=1)], Backlog(1, 2, opened=True)),
        ([View(("t", 0), 0, 9, 9, 2, 2, HELD, first_ms=1)], Backlog(1, stuck=7)),
        ([View(("t", 0), 0, 9, 9, 2, 2, damage="BAD")], Backlog(1, stuck=7)),
        ([View(("t", 0), 3, 9, 9, 50, 50)], Backlog(1, stuck=6)),  # another log's offset
        ([View(("t", 0), 9, 9, 9, 50, 50)], Backlog(1)),
        (
            [View(("t", 0), 0, 9, 9, 2, 2, HELD, first_ms=1), View(("t", 1), 0, 5, 5, 0, first_ms=1)],
            Backlog(2, 5, 0, 7),
        ),
    ],
)
def test_what_waits_is_what_a_replica_can_read(views: list[View], expected: Backlog) -> None:
    """Partitions that wait for a person want one replica, which says so, and no more."""
    assert backlog_of(views, 0.0) == expected


def test_offsets_that_are_no_records_are_not_counted() -> None:
    """By the share that the reports tell; one record always counts."""
    views = [View(("t", 0), 0, 1_000, 1_000, 0, first_ms=1)]
    assert backlog_of(views, 80.0, 0.25) == Backlog(1, 250.0, 20.0)
    assert backlog_of(views, 80.0, 1e-9).records == 1.0


def test_what_arrives_is_the_mean_of_a_minute() -> None:
    """A topic that is made anew begins again; a partition that stands still does not count, nor one that is new."""
    arrivals = Arrivals()

    def at(now_s: float, *ends: int, note: str = "") -> float:
        views = [View(("t", number), 0, end, end, 0, 0, note, first_ms=1) for number, end in enumerate(ends)]
        return arrivals.rate(views, now_s)

    assert [at(0, 100), at(0, 100), at(10, 200), at(20, 200, 5_000)] == [0.0, 0.0, 10.0, 5.0]
    assert at(RATE_S, 1_000, 5_000) == 900 / RATE_S
    assert at(RATE_S + 20, 1_000, 5_000) == pytest.approx(800 / RATE_S, rel=0.2)
    assert at(RATE_S + 30, 9_000, 9_000, note=HELD) == 0.0
    assert at(3 * RATE_S, 3, 3) == 0.0


def report(
    window: int, records: int, *, late_ms: int = 20_000, tokens: int = 0, member: str = "m", first: int = 0
) -> Report:
    """Of one settle of a member in this window; its records took so long."""
    return report_of(
        window * WINDOW_MS + 5_000,
        first,
        first + records - 1,
        tokens=tokens,
        latency_ms=Histogram([(late_ms, records)], late_ms * records, late_ms),
        member=member,
    )


def learned(*reports: Report) -> Capacity:
    """From these, in this order."""
    capacity = Capacity()
    for each in reports:
        capacity.add(each)
    return capacity


def test_capacity_is_what_a_busy_member_settles_in_a_whole_window() -> None:
    """Not the first and the last of its windows, nor what it does when there is little to do."""
    assert learned().records_per_s is None
    assert learned(report(1, 7), report(2, 1_000)).records_per_s is None
    busy = [report(1, 7), report(2, 1_000), report(2, 1_000), report(3, 2_000), report(4, 3)]
    assert learned(*busy).records_per_s == 200.0
    calm = [report(number, 50, late_ms=20) for number in range(5, 9)]
    assert learned(*busy, *calm).records_per_s == 200.0
    # Where it was never busy, the most that was seen.
    assert learned(*calm, report(9, 80, late_ms=20), report(10, 1, late_ms=20)).records_per_s == 8.0
    # A gap begins anew; a start or an end is no work.
    assert learned(report(1, 7), report(3, 1_000), report(5, 1)).records_per_s is None
    ended = report(3, 0)
    ended.event = Event("ended")
    assert learned(*busy[:3], ended, report(3, 1)).records_per_s == 200.0


def test_capacity_is_that_of_one_replica_and_follows_the_length_of_texts() -> None:
    """Two members that settle 100 a second each can do 100 each; texts four times as long, a quarter of them."""
    two = [report(number, 1_000, member=member) for number in range(1, 5) for member in "ab"]
    assert learned(*two).records_per_s == 100.0
    short = [report(number, 1_000, tokens=10_000) for number in range(1, 5)]
    assert learned(*short).records_per_s == pytest.approx(100.0)
    long = [report(6, 100, late_ms=1, tokens=4_000, member=f"m{number}") for number in range(900)]
    assert learned(*short, *long).records_per_s == pytest.approx(25.0, rel=0.01)


def test_the_share_of_records_among_offsets_is_learned() -> None:
    """Each settle of ten records passed over a marker; what is before the first report is not known."""
    assert learned().share == 1.0
    assert learned(*(report(1, 10, first=11 * number) for number in range(500))).share == pytest.approx(
        10 / 11, rel=0.01
    )


def test_members_are_forgotten_in_time() -> None:
    """Pods with names of their own come and go for years."""
    capacity = learned(*(report(1, 1, member=f"pod-{number}") for number in range(3_000)))
    assert len(capacity._members) == 1_000


@pytest.mark.parametrize(
    ("metadata", "wrong"),
    [
        ({}, "metadata.pipeline: it is missing: name the pipeline; there are: sentiment, topics"),
        (
            {"pipeline": "sentimant"},
            "metadata.pipeline: the configuration has no pipeline sentimant; did you mean sentiment?",
        ),
        ({"pipeline": "topics", "drainS": "1"}, "metadata.drainS: there is no such field; did you mean drain_s?"),
        ({"pipeline": "topics", "zzz": "1"}, "metadata.zzz: there is no such field; there are pipeline, drain_s,"),
        (
            {"pipeline": "topics", "drain_s": "0"},
            'metadata.drain_s: "0" is no number of seconds of 1 or more; write e.g. "60"',
        ),
        ({"pipeline": "topics", "drain_s": "1m"}, 'metadata.drain_s: "1m" is no number'),
        ({"pipeline": "topics", "cooldown_s": "nan"}, "metadata.cooldown_s"),
        ({"pipeline": "topics", "max_records": "inf"}, "metadata.max_records"),
        ({"pipeline": "topics", "max_replicas": "1.5"}, 'metadata.max_replicas: "1.5" is no whole number'),
    ],
)
def test_metadata_are_refused_by_field_and_fix(metadata: dict[str, str], wrong: str) -> None:
    """As KEDA hands them over: all are texts."""
    wish, found = wish_of(metadata, ["sentiment", "topics"])
    assert wish is None
    assert len(found) == 1 and found[0].startswith(wrong), found


def test_metadata_say_what_is_wanted_beside_what_keda_reads() -> None:
    """KEDA passes on what is meant for itself, too."""
    metadata = {
        "scalerAddress": "scaler:9480",
        "enableTLS": "true",
        "pipeline": "p",
        "drain_s": "30",
        "max_replicas": "4",
    }
    assert wish_of(metadata, ["p"]) == (Wish("p", 30.0, max_replicas=4.0), [])
    assert wish_of({"pipeline": "p"}, ["p"]) == (Wish("p"), [])


def test_a_replica_with_several_members_is_worth_as_many() -> None:
    """In what it settles, and in the partitions that it takes."""
    work = Backlog(8, 600.0, 30.0)
    assert [replicas(work, Wish("p"), 5.0, 0.0, members) for members in (1, 2, 3)] == [8, 4, 3]
    assert replicas(Backlog(8, 1e9), Wish("p"), 5.0, 0.0, 3) == 3
