"""The console's judgement of a pipeline, from what is known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.config.load import PipelineConfig, load
from streamer.console.board import STANDING_MS, Situation, judge, pipeline_json
from streamer.console.feed import metrics_urls
from streamer.console.series import PipelineSeries
from streamer.core.standing import Reason, Standing
from streamer.ops.lag import PartitionLag, PipelineLag
from streamer.telemetry.scrape import Replica
from tests.unit.test_console_series import report

T = 1_700_000_000_000
CONFIG = PipelineConfig(task="embedding", model="m", input=["in"], output="out", dead_letter="out.dlq", group="g")


OPEN = Standing(("in", 0), 10, Reason.OPEN_TRANSACTION, "a producer left one open", "end it")


def lag(records: int, seconds: float = 2.0, rate_out: float | None = None) -> PipelineLag:
    return PipelineLag("p", "g", [PartitionLag("in", 0, 10, 10 + records, records, seconds, 0.0, rate_out)])


def situation(
    settled_ms: int | None = None,
    lag: PipelineLag | str | None = None,
    replica: Replica | None = None,
    known_ms: int | None = T - 10 * STANDING_MS,
) -> Situation:
    series = PipelineSeries()
    if settled_ms is not None:
        series.add(report(settled_ms, 5), settled_ms)
    if known_ms is not None:
        series.know(known_ms)
    return Situation("p", CONFIG, series, lag, [(replica, None)] if replica else [])


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (situation(T - 3_000, lag(4)), "settling"),
        (situation(T - 15_000, lag(4)), "waiting"),
        (situation(T - STANDING_MS, lag(4)), "standing"),
        (situation(None, lag(4)), "standing"),
        (situation(T - STANDING_MS, lag(0)), "idle"),
        (situation(None, "no topic in", known_ms=None), "unknown"),
        (situation(None, lag(4, 40, 0.0), known_ms=None), "standing"),
        (situation(None, lag(4, 40, 5.0), known_ms=None), "waiting"),
        (situation(None, lag(4, 40), known_ms=None), "waiting"),
        (situation(None, lag(0), known_ms=None), "idle"),
        (situation(T - 3_000, lag(4), Replica("a", ready=False, reasons=["no worker is ready"])), "not ready"),
        (situation(T - 3_000, lag(4), Replica("a", ready=True)), "settling"),
        (situation(T - 3_000, replace(lag(4), standing=[OPEN]), Replica("a", ready=True)), "standing"),
    ],
)
def test_a_pipeline_has_a_state(known: Situation, state: str) -> None:
    """Each state has its facts, a driver's own word first."""
    assert judge(known, reached=True, now_ms=T)[0] == state


def test_what_stands_is_named() -> None:
    """With its place, why, and the way out."""
    told = pipeline_json(situation(lag=replace(lag(4), standing=[OPEN])), reached=True, since_ms=0, until_ms=T)
    assert told["why"] == "in/0 stands at offset 10 (open_transaction): a producer left one open; end it"


def test_nothing_is_claimed_while_the_brokers_are_away() -> None:
    """State, figures and lag are unknown then; the series stay."""
    told = pipeline_json(situation(T - 3_000, lag(4)), reached=False, since_ms=T - 5_000, until_ms=T)
    assert (told["state"], told["now"], told["lag"]) == ("unknown", None, None)
    assert told["points"]["fine"]


def test_why_a_lag_is_not_known_is_told() -> None:
    """A missing topic shows at its pipeline."""
    told = pipeline_json(situation(lag="there is no topic in"), reached=True, since_ms=0, until_ms=T)
    assert (told["lag"], told["lag_error"]) == (None, "there is no topic in")


def test_drivers_are_looked_for_where_run_serves_them() -> None:
    """A port for each pipeline from the configured one on; none where it is any port, or none."""
    pipelines = {f"pipelines.{name}.{field}" for name in "ab" for field in ("task=embedding", "model=m", "input=in")}
    flags = [*pipelines, "pipelines.a.output=x", "pipelines.b.output=y"]
    config = load(None, {}, [*flags, "telemetry.http=0.0.0.0:9464"])
    assert metrics_urls(config) == ["http://127.0.0.1:9464/metrics", "http://127.0.0.1:9465/metrics"]
    assert metrics_urls(load(None, {}, [*flags, "telemetry.http=127.0.0.1:0"])) == []
    assert metrics_urls(load(None, {}, [*flags, "telemetry.http="])) == []
