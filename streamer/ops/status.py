"""How a pipeline does: its state, why, and what there is to know of it. Pure: others ask brokers and drivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.ops.judgement import Facts, State, judge, level_of, rank


@dataclass(frozen=True, slots=True)
class Status:
    """A pipeline as operators see it. None is what nobody knows; rates are records a second."""

    pipeline: str
    state: State
    why: list[str]
    members: int | None = None
    partitions: int | None = None
    rate: float | None = None
    lag_records: int | None = None
    lag_s: float | None = None
    drain_s: float | None = None
    dead_letters: dict[str, int] | None = None
    dead_share: float | None = None
    p50_ms: int | None = None
    p99_ms: int | None = None
    model: str = ""
    revision: str = ""
    last_settled_ms: int | None = None
    last_dead_letter: str = ""
    last_dead_letter_ms: int | None = None

    @property
    def is_well(self) -> bool:
        """Whether nobody has to do anything."""
        return level_of(self.state) == "ok"


def worst_first(found: Sequence[Status]) -> list[Status]:
    """By state, then by how far behind they are."""
    return sorted(found, key=lambda each: rank(each.state, each.lag_s, each.pipeline))


def status_of(facts: Facts) -> Status:
    """All that there is to say of a pipeline; rates are those of two looks where no report tells."""
    lag, series, verdict = facts.known_lag, facts.series, judge(facts)
    lately, rate = series.lately(facts.now_ms), series.rate(facts.now_ms)
    if lag is not None and rate is None:
        rate = lag.rate_out
    running = next((each for each in facts.replicas if each.model), None)
    told = series.model
    return Status(
        facts.name,
        verdict.state,
        [str(each) for each in verdict.problems],
        members=facts.living,
        partitions=len(lag.partitions) if lag else None,
        rate=rate if lag else None,
        lag_records=lag.records if lag else None,
        lag_s=lag.seconds if lag else None,
        drain_s=None if lag is None else 0.0 if not lag.records else lag.records / rate if rate else None,
        dead_letters=dict(lately.dead_letters) if lately else None,
        dead_share=lately.dead_share if lately else None,
        p50_ms=lately.latency_ms_at(0.5) if lately else None,
        p99_ms=lately.latency_ms_at(0.99) if lately else None,
        model=running.model if running else told.name if told else "",
        revision=running.revision if running else told.revision if told else "",
        last_settled_ms=series.last_ms,
        last_dead_letter=series.last_dead,
        last_dead_letter_ms=series.last_dead_ms,
    )
