"""What the page is told of a pipeline: from its series, its lag and its drivers. Pure; None is what nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamer.config.fields import PipelineConfig
from streamer.console.series import PipelineSeries
from streamer.ops.lag import PipelineLag
from streamer.telemetry.scrape import Replica

STANDING_MS = 30_000


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of one pipeline. `lag` is a text where it can't be told why; `config` None where the pipeline is
    known by its reports alone."""

    name: str
    config: PipelineConfig | None
    series: PipelineSeries
    lag: PipelineLag | str | None
    replicas: Sequence[tuple[Replica, float | None]]


def pipeline_json(situation: Situation, *, reached: bool, since_ms: int, until_ms: int) -> dict[str, Any]:
    """One pipeline, with the points of its series from `since_ms` to `until_ms`, which is now while the brokers are
    `reached`."""
    config, series, lag = situation.config, situation.series, situation.lag
    state, why = judge(situation, reached=reached, now_ms=until_ms)
    return {
        "name": situation.name,
        "state": state,
        "why": why,
        "task": series.task or (config.task if config else None),
        "model": None if series.model is None else {"name": series.model.name, "revision": series.model.revision},
        "topics": None if config is None else _topics(config),
        "last_settled_ms": series.last_ms,
        "now": series.now(until_ms) if reached else None,
        "lag": None if lag is None or isinstance(lag, str) or not reached else _lag_json(lag),
        "lag_error": lag if isinstance(lag, str) else None,
        "replicas": [_replica_json(replica, mean) for replica, mean in situation.replicas],
        "points": series.points(since_ms, until_ms),
    }


def judge(situation: Situation, *, reached: bool, now_ms: int) -> tuple[str, str]:
    """The pipeline's state in a word, and why.

    | state | means |
    |---|---|
    | unknown | the brokers are away, or nothing tells of it |
    | not ready | a driver says so |
    | standing | a partition can't go on; or records wait, and nothing was settled for half a minute, or without reports
    since the last look |
    | settling | outcomes came in the last ten seconds |
    | waiting | records wait, and something was settled within half a minute |
    | idle | nothing waits |
    """
    if not reached:
        return "unknown", "the brokers do not answer"
    unready = [reason for replica, _ in situation.replicas if replica.ready is False for reason in replica.reasons]
    if unready:
        return "not ready", "; ".join(dict.fromkeys(unready))
    lag = situation.lag
    if isinstance(lag, PipelineLag) and lag.standing:
        return "standing", "; ".join(map(str, lag.standing))
    now = situation.series.now(now_ms)
    if now is not None and now["settle_records"] is not None:
        return "settling", ""
    waiting = lag.records if isinstance(lag, PipelineLag) else None
    last_ms = situation.series.last_ms
    if waiting and situation.series.known_ms is not None:
        quiet_since_ms = last_ms if last_ms is not None else situation.series.known_ms
        if now_ms - quiet_since_ms >= STANDING_MS:
            return "standing", f"{waiting:,} records wait, and nothing was settled for half a minute"
        return "waiting", ""
    if waiting and isinstance(lag, PipelineLag):  # without reports the settled offsets tell
        if lag.rate_out == 0 and (lag.seconds is None or lag.seconds * 1000 >= STANDING_MS):
            return "standing", f"{waiting:,} records wait, and the settled offsets do not move"
        return "waiting", ""
    why = lag if isinstance(lag, str) else ""
    if waiting is None and now is None:
        return "unknown", why or "no reports and no offsets are read"
    return "idle", why


def _topics(config: PipelineConfig) -> dict[str, Any]:
    return {
        "input": list(config.input),
        "output": config.output,
        "dead_letter": config.dead_letter,
        "group": config.group,
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


def _replica_json(replica: Replica, forward_mean: float | None) -> dict[str, Any]:
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
        "forward_records": forward_mean,
    }
