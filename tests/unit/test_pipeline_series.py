"""A pipeline's series: reports folded into buckets over time."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.core.report import Histogram, Model, Report, percentile
from streamer.ops.buckets import COLUMNS, Point
from streamer.ops.series import FINE_BUCKETS, NOW_MS, SPARK_POINTS, PipelineSeries
from tests.health_kit import report as report_of

T = 1_700_000_000_000


def report(
    time_ms: int,
    results: int = 0,
    *,
    dead: int = 0,
    cached: int = 0,
    tokens: int = 0,
    latencies: Sequence[tuple[int, int]] = (),
) -> Report:
    return report_of(
        time_ms,
        model=Model("m", "abc"),
        results=results,
        dead_letters={"infer.exception": dead} if dead else {},
        cached=cached,
        tokens=tokens,
        latency_ms=Histogram(list(latencies), 0, max((bound for bound, _ in latencies), default=0)),
    )


def named(point: Point) -> dict[str, float | None]:
    return dict(zip(COLUMNS, point, strict=True))


def test_reports_of_a_second_make_one_point() -> None:
    """While no more is known, rates are sums of the second; means are over its settles, percentiles over all its
    records."""
    series = PipelineSeries()
    series.add(report(T + 100, 30, cached=6, tokens=300, latencies=[(10, 30)]), T + 200)
    series.add(report(T + 900, 9, dead=1, latencies=[(100, 9), (1000, 1)]), T + 1_000)
    (point,) = series.points(0, T + 1_500)["fine"]
    assert named(point) == {
        "time_s": T / 1000,
        "results_per_s": 39,
        "dead_letters_per_s": 1,
        "tokens_per_s": 300,
        "cached_share": 6 / 39,
        "settle_records": 20,
        "p50_ms": 10,
        "p95_ms": 100,
        "p99_ms": 1000,
        "lag_records": None,
        "lag_seconds": None,
    }


def test_the_newest_point_is_what_is_told_of_now() -> None:
    """Chart and figure are the same numbers of the same ten seconds, whatever the second."""
    series = PipelineSeries()
    for second in range(40):
        time_ms = T + second * 1_000
        series.add(report(time_ms, 7 * second % 11, dead=second % 3, latencies=[(10 + second, 2)]), time_ms)
        series.note_lag(second, second / 2, time_ms)
        until_ms = time_ms + 1_900
        newest = named(series.points(0, until_ms)["fine"][-1])
        now = series.now(until_ms)
        assert now is not None
        assert {**now, "time_s": newest["time_s"]} == newest


def test_a_second_without_reports_is_zero_only_where_reports_are_known() -> None:
    """After the first report silence means no settle; before it, only what was looked at is told."""
    series = PipelineSeries()
    series.note_lag(7, 2.5, T)
    series.add(report(T + 2_000, 5), T + 2_000)
    points = [named(point) for point in series.points(0, T + 4_500)["fine"]]
    assert [point["results_per_s"] for point in points] == [None, None, 5, 2.5]
    assert [(point["lag_records"], point["lag_seconds"]) for point in points] == [(7, 2.5), *[(None, None)] * 3]
    assert points[3]["p50_ms"] is None


def test_reports_read_to_their_end_make_silence_known() -> None:
    """A pipeline that never settled shows zeros from when the end of the reports was reached, and nothing before."""
    series = PipelineSeries()
    assert series.now(T) is None
    assert series.points(0, T)["fine"] == []
    series.know(T)
    now = series.now(T + NOW_MS)
    assert now is not None
    assert now["results_per_s"] == 0
    assert now["p99_ms"] is None


def test_a_late_report_changes_the_point_of_its_time() -> None:
    """A report counts when it was written, not when it was read."""
    series = PipelineSeries()
    series.add(report(T, 1), T)
    series.add(report(T + 5_000, 1), T + 5_000)
    before = named(series.points(T + 2_000, T + 6_000)["fine"][0])["results_per_s"]
    series.add(report(T + 2_100, 8), T + 6_000)
    after = named(series.points(T + 2_000, T + 6_000)["fine"][0])["results_per_s"]
    assert (before, after) == (1 / 3, 3)


def test_a_clock_ahead_of_ours_does_not_push_the_rest_out() -> None:
    """A report from the future counts as written now; what was there stays."""
    series = PipelineSeries()
    series.add(report(T, 3), T)
    series.add(report(T + 10**9, 4), T + 1_000)
    rates = [named(point)["results_per_s"] for point in series.points(0, T + 2_500)["fine"]]
    assert rates == [3, 3.5]


def test_only_a_window_is_kept() -> None:
    """Old buckets go, and a report older than the window changes nothing."""
    series = PipelineSeries()
    series.add(report(T, 3), T)
    later = T + 2 * FINE_BUCKETS * 1_000
    series.add(report(later, 1), later)
    series.add(report(T, 3), later)
    points = series.points(0, later + 1_500)["fine"]
    assert len(points) == FINE_BUCKETS
    assert sum(named(point)["results_per_s"] or 0 for point in points) == 0.1
    assert sum((named(point)["results_per_s"] or 0) * 30 for point in series.points(0, later + 40_000)["coarse"]) == 7


def test_the_figures_of_now_are_of_ten_seconds() -> None:
    """What is older than ten seconds does not count."""
    series = PipelineSeries()
    series.add(report(T, 1_000), T)
    series.add(report(T + 20_000, 50), T + 20_000)
    now = series.now(T + 21_500)
    assert now is not None
    assert now["results_per_s"] == 5


def test_a_percentile_is_the_bound_of_its_bin() -> None:
    """It is never above the largest value, and unknown for no values."""
    counts = {10: 50, 100: 49, 1000: 1}
    assert percentile(counts, 0.5, 700) == 10
    assert percentile(counts, 0.99, 700) == 100
    assert percentile(counts, 1.0, 700) == 700
    assert percentile({}, 0.5, 0) is None


def test_the_overview_has_a_line_and_a_share_of_five_minutes() -> None:
    """What is not known is a gap, and what is older does not count."""
    series = PipelineSeries()
    assert series.spark(T) == [None] * SPARK_POINTS
    assert series.dead_share(T) is None
    series.add(report(T, 90, dead=10), T)
    line = series.spark(T + 25_000)
    assert [rate for rate in line if rate is not None] == [9, 0]
    assert series.dead_share(T + 25_000) == 0.1
    assert series.dead_share(T + 320_000) is None


def test_a_lag_grows_where_more_waits_and_the_oldest_ages() -> None:
    """Not where it is worked off, not within half a minute, and not by a burst alone."""

    def grows(*looks: tuple[int, int, float]) -> bool:
        series = PipelineSeries()
        for second, records, seconds in looks:
            series.note_lag(records, seconds, T + second * 1_000)
        return series.grows

    assert not PipelineSeries().grows
    assert grows((0, 100, 60.0), (20, 150, 75.0), (40, 200, 95.0))
    assert not grows((0, 100, 60.0), (10, 200, 70.0))
    assert not grows((0, 200, 60.0), (40, 100, 100.0))
    assert not grows((0, 100, 60.0), (40, 200, 62.0))
