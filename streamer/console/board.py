"""What the page is told of pipelines: a row of the overview, and one of them whole. Pure; None is what nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamer.config.pipeline import PipelineConfig
from streamer.console.drivers import Driver
from streamer.ops.judgement import DEAD_SHARE, LATE_S, Facts, Level, State, Verdict, judge, level_of, rank
from streamer.ops.lag import PipelineLag

LAG_BAD_S: Final = 600.0  # as deploy/prometheus alerts
SHARE_BAD: Final = 0.1


@dataclass(frozen=True, slots=True)
class Situation:
    """A pipeline, as it is known; `config` None where that is by its reports alone."""

    facts: Facts
    config: PipelineConfig | None
    drivers: Sequence[Driver] = ()


def rows_json(situations: Iterable[Situation], *, reached: bool, now_ms: int) -> list[dict[str, Any]]:
    """A row for each pipeline, the one that needs somebody most first. Facts are of now while the brokers are
    `reached`, else of when they last answered, and `stale_s` says how old they are."""
    rows = []
    for each in situations:
        facts = each.facts
        verdict = judge(facts) if reached else Verdict(State.UNKNOWN)  # the page says why, once for all
        stale_s = 0.0 if reached else max(now_ms - facts.now_ms, 0) / 1000
        lag_s = facts.known_lag.seconds if facts.known_lag else None
        rows.append((rank(verdict.state, lag_s, facts.name), _row(each, verdict) | {"stale_s": stale_s}))
    return [row for _, row in sorted(rows, key=lambda one: one[0])]


def pipeline_json(situation: Situation, *, reached: bool, since_ms: int, now_ms: int) -> dict[str, Any]:
    """One pipeline, with the points of its series from `since_ms` on."""
    (row,) = rows_json([situation], reached=reached, now_ms=now_ms)
    config, facts = situation.config, situation.facts
    series, lag = facts.series, facts.lag
    return row | {
        "task": series.task or (config.task if config else None),
        "model": None if series.model is None else {"name": series.model.name, "revision": series.model.revision},
        "topics": None if config is None else _topics(config),
        "last_settled_ms": series.last_ms,
        "lag": _lag_json(lag) if isinstance(lag, PipelineLag) else None,
        "lag_error": lag if isinstance(lag, str) else None,
        "drivers": [_driver_json(each) for each in situation.drivers],
        "points": series.points(since_ms, facts.now_ms),
    }


def lag_level(seconds: float | None) -> Level:
    """How bad it is to be so far behind."""
    return _level(seconds, LATE_S, LAG_BAD_S)


def share_level(share: float | None) -> Level:
    """How bad it is that so many outcomes are dead letters."""
    return _level(share, DEAD_SHARE, SHARE_BAD)


def _level(value: float | None, warn: float, bad: float) -> Level:
    if value is None:
        return "unknown"
    return "bad" if value > bad else "warn" if value > warn else "ok"


def _row(situation: Situation, verdict: Verdict) -> dict[str, Any]:
    facts, known = situation.facts, situation.facts.known_lag
    series, until_ms = facts.series, facts.now_ms
    now = series.now(until_ms) or {}
    share = series.dead_share(until_ms)
    return {
        "name": facts.name,
        "state": verdict.state,
        "level": level_of(verdict.state),
        "problems": [{"what": each.what, "fix": each.fix} for each in verdict.problems],
        "lag_records": known.records if known else None,
        "lag_s": known.seconds if known else None,
        "lag_level": lag_level(known.seconds if known else None),
        "results_per_s": now.get("results_per_s"),
        "spark": series.spark(until_ms),
        "dead_share": share,
        "dead_level": share_level(share),
        "p50_ms": now.get("p50_ms"),
        "p99_ms": now.get("p99_ms"),
        "partitions": len(known.partitions) if known else None,
        "members": facts.living,
        "silent_s": max((each.silent_s for each in situation.drivers), default=0.0),
    }


def _topics(config: PipelineConfig) -> dict[str, Any]:
    return {
        "input": list(config.input),
        "output": config.output,
        "guarantee": config.guarantee,
    }


def _lag_json(lag: PipelineLag) -> dict[str, Any]:
    return {
        "records": lag.records,
        "seconds": lag.seconds,
        "rate_in": lag.rate_in,
        "drain_s": lag.drain_s,
        "partitions": [
            {
                "topic": each.topic,
                "partition": each.partition,
                "settled": each.settled,
                "end": each.end,
                "records": each.records,
                "seconds": each.seconds,
            }
            for each in lag.partitions
        ],
    }


def _driver_json(driver: Driver) -> dict[str, Any]:
    replica = driver.replica
    return {
        "slot": replica.slot or replica.address,
        "device": replica.device or None,
        "revision": replica.revision or None,
        "ready": replica.ready,
        "workers_ready": replica.workers_ready,
        "restarts": replica.worker_restarts,
        "held": replica.held,
        "in_flight_bytes": replica.in_flight_bytes,
        "head_of_line_s": replica.head_of_line_s,
        "cache_available": replica.cache_available,
        "cache_lookups": replica.cache_lookups,
        "forward_records": driver.forward_mean,
        "silent_s": driver.silent_s,
    }
