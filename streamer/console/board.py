"""What the page is told of pipelines: a row of the overview, and one of them whole. Pure; None is what nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streamer.config.pipeline import PipelineConfig
from streamer.console.judgement import LEVELS, Driver, Situation, Verdict, judge, lag_level, rank, share_level
from streamer.ops.lag import PipelineLag


def rows_json(situations: Iterable[Situation], *, reached: bool, now_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """A row for each pipeline, the one that needs somebody most first. `until_ms` is now while the brokers are
    `reached`, else when they last answered: the figures are of then, and `stale_s` says how old they are."""
    stale_s = 0.0 if reached else max(now_ms - until_ms, 0) / 1000
    rows = []
    for each in situations:
        verdict = judge(each, reached=reached, now_ms=until_ms)
        rows.append((rank(verdict, each.lag, each.name), _row(each, verdict, until_ms) | {"stale_s": stale_s}))
    return [row for _, row in sorted(rows, key=lambda one: one[0])]


def pipeline_json(situation: Situation, *, reached: bool, since_ms: int, now_ms: int, until_ms: int) -> dict[str, Any]:
    """One pipeline, with the points of its series from `since_ms` to `until_ms`."""
    (row,) = rows_json([situation], reached=reached, now_ms=now_ms, until_ms=until_ms)
    config, series, lag = situation.config, situation.series, situation.lag
    return row | {
        "task": series.task or (config.task if config else None),
        "model": None if series.model is None else {"name": series.model.name, "revision": series.model.revision},
        "topics": None if config is None else _topics(config),
        "last_settled_ms": series.last_ms,
        "lag": _lag_json(lag) if isinstance(lag, PipelineLag) else None,
        "lag_error": lag if isinstance(lag, str) else None,
        "drivers": [_driver_json(each) for each in situation.drivers],
        "points": series.points(since_ms, until_ms),
    }


def _row(situation: Situation, verdict: Verdict, until_ms: int) -> dict[str, Any]:
    series, lag = situation.series, situation.lag
    known = lag if isinstance(lag, PipelineLag) else None
    now = series.now(until_ms) or {}
    share = series.dead_share(until_ms)
    return {
        "name": situation.name,
        "state": verdict.state,
        "level": LEVELS[verdict.state],
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
        "members": situation.members,
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
