"""The console's judgement of a pipeline, from what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from streamer.config.load import PipelineConfig, load
from streamer.console.board import Situation, lag_level, pipeline_json, rows_json, share_level
from streamer.console.drivers import FORGET_S, STALE_S, Drivers
from streamer.core.standing import Reason, Standing
from streamer.errors import UsageError
from streamer.ops.judgement import STANDING_MS, Facts
from streamer.ops.lag import PartitionLag, PipelineLag
from streamer.ops.series import PipelineSeries
from streamer.telemetry.scrape import Replica, metrics_urls
from tests.unit.test_pipeline_series import report

T = 1_700_000_000_000
CONFIG = PipelineConfig(task="embedding", model="m", input=["in"], output="out", dead_letter="out.dlq", group="g")


OPEN = Standing(("in", 0), 10, Reason.OPEN_TRANSACTION, "a producer left one open", "end it")
HELD = Standing(("in", 1), 12, Reason.HELD, "its records ended three processes", "look at them")


def lag(records: int, seconds: float = 2.0, rate_out: float | None = None) -> PipelineLag:
    return PipelineLag("p", "g", [PartitionLag("in", 0, 10, 10 + records, records, seconds, 0.0, rate_out)])


def situation(
    settled_ms: int | None = None,
    lag: PipelineLag | str | None = None,
    *,
    name: str = "p",
    dead: int = 0,
    members: Sequence[str] = ("a", "b"),
) -> Situation:
    series = PipelineSeries()
    if settled_ms is not None:
        series.add(report(settled_ms, 5, dead=dead), settled_ms)
    series.know(T - 10 * STANDING_MS)
    return Situation(Facts(name, "g", lag, members, [], series, T), CONFIG)


def test_what_stands_is_named() -> None:
    """With its place, why, and the way out; what holds a partition back comes first."""
    known = situation(lag=replace(lag(4), standing=[OPEN, HELD]))
    (row,) = rows_json([known], reached=True, now_ms=T)
    assert row["problems"][1] == {
        "what": "in/0 stands at offset 10 (open_transaction): a producer left one open",
        "fix": "end it",
    }
    assert row["problems"][0]["fix"] == "look at them"


def test_the_worst_comes_first() -> None:
    """By state, then by the order of magnitude of the delay, then by name; what is well stays where it is."""
    known = [
        situation(T - 3_000, lag(0), name="well-b"),
        situation(T - 3_000, lag(9, 5.0), name="well-a"),
        situation(T - 3_000, lag(4), dead=1, name="failing"),
        situation(T - 3_000, lag(4, 900.0), members=(), name="nobody-late"),
        situation(T - 3_000, lag(4, 7.0), members=(), name="nobody"),
        situation(T - 3_000, replace(lag(4), standing=[OPEN]), name="stuck"),
        situation(T - 3_000, replace(lag(4), standing=[HELD]), name="held"),
        situation(None, "no topic in", name="unknown"),
    ]
    rows = rows_json(known, reached=True, now_ms=T)
    assert [row["name"] for row in rows] == [
        "held",
        "stuck",
        "nobody-late",
        "nobody",
        "unknown",
        "failing",
        "well-a",
        "well-b",
    ]
    assert [row["level"] for row in rows] == [*["bad"] * 4, "unknown", "warn", "ok", "ok"]


def test_thresholds_have_levels() -> None:
    """What is not known is neither good nor bad."""
    assert [lag_level(seconds) for seconds in (None, 0.0, 60.0, 61.0, 601.0)] == ["unknown", "ok", "ok", "warn", "bad"]
    assert [share_level(share) for share in (None, 0.0, 0.011, 0.11)] == ["unknown", "ok", "warn", "bad"]


def test_figures_are_old_while_the_brokers_are_away() -> None:
    """The state is unknown then, and the last figures stay, with their age."""
    told = pipeline_json(situation(T - 3_000, lag(4)), reached=False, since_ms=T - 5_000, now_ms=T + 9_000)
    assert (told["state"], told["stale_s"], told["lag_records"]) == ("unknown", 9.0, 4)
    assert told["points"]["fine"]
    fresh = pipeline_json(situation(T - 3_000, lag(4)), reached=True, since_ms=0, now_ms=T)
    assert fresh["stale_s"] == 0


def test_why_a_lag_is_not_known_is_told() -> None:
    """A missing topic shows at its pipeline."""
    told = pipeline_json(situation(lag="there is no topic in"), reached=True, since_ms=0, now_ms=T)
    assert (told["lag"], told["lag_error"]) == (None, "there is no topic in")


def test_a_driver_that_falls_silent_keeps_its_last_word() -> None:
    """It is shown with its age, for a while; what it answers next counts since its last answer."""
    drivers = Drivers(["u"])
    drivers.note("u", Replica("u", pipeline="p", forward_batches=10, forward_records=100), 0.0)
    assert drivers.by_pipeline(1.0)["p"][0].silent_s == 0
    drivers.note("u", "u does not answer", 4.0)
    assert drivers.silent == {"u": "u does not answer"}
    assert drivers.by_pipeline(STALE_S + 1)["p"][0].silent_s == STALE_S + 1
    drivers.note("u", Replica("u", pipeline="p", forward_batches=12, forward_records=160), 30.0)
    (driver,) = drivers.by_pipeline(31.0)["p"]
    assert (driver.forward_mean, driver.silent_s, drivers.silent) == (30, 0, {})
    drivers.note("u", "u does not answer", 31.0 + FORGET_S)
    assert drivers.by_pipeline(31.0 + FORGET_S) == {}


def test_drivers_are_looked_for_where_run_serves_them() -> None:
    """A port for each pipeline from the configured one on; none where it is any port, or none."""
    pipelines = {f"pipelines.{name}.{field}" for name in "ab" for field in ("task=embedding", "model=m", "input=in")}
    flags = [*pipelines, "pipelines.a.output=x", "pipelines.b.output=y"]
    config = load(None, {}, [*flags, "telemetry.http=0.0.0.0:9464"])
    assert metrics_urls(config) == ["http://127.0.0.1:9464/metrics", "http://127.0.0.1:9465/metrics"]
    assert metrics_urls(load(None, {}, [*flags, "telemetry.http=127.0.0.1:0"])) == []
    assert metrics_urls(load(None, {}, [*flags, "telemetry.http="])) == []
    assert metrics_urls(config, ["http://a/metrics"]) == ["http://a/metrics"]
    with pytest.raises(UsageError, match="--metrics a/metrics: write a URL"):
        metrics_urls(config, ["a/metrics"])
