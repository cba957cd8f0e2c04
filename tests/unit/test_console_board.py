"""The console's judgement of a pipeline, from what is known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.config.load import PipelineConfig, load
from streamer.console.board import pipeline_json, rows_json
from streamer.console.drivers import FORGET_S, STALE_S, Drivers
from streamer.console.judgement import STUCK_MS, Driver, Situation, judge, lag_level, share_level
from streamer.console.series import PipelineSeries
from streamer.core.report import Event
from streamer.core.standing import Reason, Standing
from streamer.errors import ExitCode, UsageError
from streamer.ops.lag import PartitionLag, PipelineLag
from streamer.telemetry.scrape import Replica, metrics_urls
from tests.unit.test_console_series import report

T = 1_700_000_000_000
CONFIG = PipelineConfig(task="embedding", model="m", input=["in"], output="out", dead_letter="out.dlq", group="g")


OPEN = Standing(("in", 0), 10, Reason.OPEN_TRANSACTION, "a producer left one open", "end it")
HELD = Standing(("in", 1), 12, Reason.HELD, "its records ended three processes", "look at them")


def lag(records: int, seconds: float = 2.0, rate_out: float | None = None) -> PipelineLag:
    return PipelineLag("p", "g", [PartitionLag("in", 0, 10, 10 + records, records, seconds, 0.0, rate_out)])


def situation(
    settled_ms: int | None = None,
    lag: PipelineLag | str | None = None,
    replica: Replica | None = None,
    known_ms: int | None = T - 10 * STUCK_MS,
    *,
    name: str = "p",
    dead: int = 0,
    grows: bool = False,
    members: int | None = 2,
) -> Situation:
    series = PipelineSeries()
    if settled_ms is not None:
        series.add(report(settled_ms, 5, dead=dead), settled_ms)
    if known_ms is not None:
        series.know(known_ms)
    if grows:
        for second in range(0, 60, 10):
            series.note_lag(100 + second, 100.0 + second, T - 60_000 + second * 1_000)
    return Situation(name, CONFIG, series, lag, [Driver(replica, None)] if replica else [], members)


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (situation(T - 3_000, lag(4)), "working"),
        (situation(T - 15_000, lag(4)), "catching up"),
        (situation(T - 3_000, lag(4, 90)), "catching up"),
        (situation(T - 3_000, lag(150, 150), grows=True), "falling behind"),
        (situation(T - 3_000, lag(4), grows=True), "working"),
        (situation(T - 3_000, lag(4), dead=1), "dead letters"),
        (situation(T - STUCK_MS, lag(4, 40)), "stuck"),
        (situation(T - STUCK_MS, lag(4, 40, 0.0)), "stuck"),
        (situation(T - STUCK_MS, lag(4, 40, 5.0)), "catching up"),
        (situation(T - 3_600_000, lag(1, 0.3, 0.0)), "catching up"),
        (situation(None, lag(4, 40)), "stuck"),
        (situation(T - STUCK_MS, lag(0)), "idle"),
        (situation(None, "no topic in", known_ms=None), "unknown"),
        (situation(None, lag(4, 40, 0.0), known_ms=None), "stuck"),
        (situation(None, lag(4, 40, 5.0), known_ms=None), "catching up"),
        (situation(None, lag(4, 40), known_ms=None), "catching up"),
        (situation(None, lag(0), known_ms=None), "idle"),
        (situation(None, lag(0), known_ms=None, members=None), "idle"),
        (situation(T - 3_000, lag(4), members=0), "no member"),
        (situation(None, "no right to Describe group g", known_ms=None, members=0), "unknown"),
        (situation(T - 3_000, lag(4), Replica("a", ready=False, reasons=["no worker is ready"])), "not ready"),
        (
            situation(None, lag(4, 40), Replica("a", ready=False, reasons=["no worker is ready"]), members=0),
            "not ready",
        ),
        (situation(None, lag(4, 40), Replica("a", ready=True), members=0), "no member"),
        (situation(T - 3_000, lag(4), Replica("a", ready=True)), "working"),
        (situation(T - 3_000, replace(lag(4), standing=[OPEN]), Replica("a", ready=True)), "stuck"),
        (situation(T - 3_000, replace(lag(4), standing=[OPEN, HELD])), "halted"),
    ],
)
def test_a_pipeline_has_a_state(known: Situation, state: str) -> None:
    """Each state has its facts, a driver's own word first."""
    assert judge(known, reached=True, now_ms=T).state == state


@pytest.mark.parametrize(
    ("exit_code", "members", "state", "why"),
    [
        (ExitCode.HALTED, 0, "halted", "It halted: too many failures"),
        (ExitCode.HALTED, 1, "catching up", ""),
        (ExitCode.DEPENDENCY, 0, "no member", "ended with exit code 5: too many failures"),
    ],
)
def test_how_the_last_member_ended_is_told(exit_code: ExitCode, members: int, state: str, why: str) -> None:
    """While nobody is there, until one starts: `streamer status` says the same."""
    known = situation(T - 15_000, lag(4), members=members)
    told = report(T - 10_000, 0)
    told.event = Event("ended", {}, exit_code, "too many failures")
    known.series.add(told, T)
    verdict = judge(known, reached=True, now_ms=T)
    assert verdict.state == state and why in "".join(each.what for each in verdict.problems)
    told.event = Event("started")
    known.series.add(told, T)
    assert judge(known, reached=True, now_ms=T).state == ("catching up" if members else "no member")


def test_a_driver_that_is_gone_is_not_asked_how_it_was() -> None:
    """One that was not ready when it was last heard says nothing of the others, which go on."""
    known = situation(T - 3_000, lag(4))
    gone = Driver(Replica("a", ready=False, reasons=["it is draining"]), None, silent_s=STALE_S + 1)
    assert judge(replace(known, drivers=[gone]), reached=True, now_ms=T).state == "working"
    there = replace(gone, silent_s=0.0)
    assert judge(replace(known, drivers=[gone, there]), reached=True, now_ms=T).state == "not ready"


def test_what_stands_is_named() -> None:
    """With its place, why, and the way out; what holds a partition back comes first."""
    known = situation(lag=replace(lag(4), standing=[OPEN, HELD]))
    (row,) = rows_json([known], reached=True, now_ms=T, until_ms=T)
    assert row["problems"][1] == {
        "what": "in/0 is stuck at offset 10 (open_transaction): a producer left one open",
        "fix": "end it",
    }
    assert row["problems"][0]["fix"] == "look at them"


def test_the_worst_comes_first() -> None:
    """By state, then by the order of magnitude of the delay, then by name; what is well stays where it is."""
    known = [
        situation(T - 3_000, lag(0), name="well-b"),
        situation(T - 3_000, lag(9, 5.0), name="well-a"),
        situation(T - 3_000, lag(4), dead=1, name="failing"),
        situation(T - 3_000, lag(4, 900.0), members=0, name="nobody-late"),
        situation(T - 3_000, lag(4, 7.0), members=0, name="nobody"),
        situation(T - 3_000, replace(lag(4), standing=[OPEN]), name="stuck"),
        situation(T - 3_000, replace(lag(4), standing=[HELD]), name="held"),
        situation(None, "no topic in", known_ms=None, name="unknown"),
    ]
    rows = rows_json(known, reached=True, now_ms=T, until_ms=T)
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
    told = pipeline_json(situation(T - 3_000, lag(4)), reached=False, since_ms=T - 5_000, now_ms=T + 9_000, until_ms=T)
    assert (told["state"], told["stale_s"], told["lag_records"]) == ("unknown", 9.0, 4)
    assert told["points"]["fine"]
    fresh = pipeline_json(situation(T - 3_000, lag(4)), reached=True, since_ms=0, now_ms=T, until_ms=T)
    assert fresh["stale_s"] == 0


def test_why_a_lag_is_not_known_is_told() -> None:
    """A missing topic shows at its pipeline."""
    told = pipeline_json(situation(lag="there is no topic in"), reached=True, since_ms=0, now_ms=T, until_ms=T)
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
