"""How a pipeline does: its state, why, and what there is to know of it. Pure: others ask brokers and drivers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from streamer.core.report import UNKNOWN, Event, Report, percentile
from streamer.core.tally import duration
from streamer.errors import ExitCode
from streamer.ops.lag import PipelineLag
from streamer.telemetry.scrape import Replica

LATELY_MS: Final = 60_000
RATE_MS: Final = 10_000
STANDING_S: Final = 30.0
_LOADING: Final = "no worker is ready"
_DOWN: Final = "is down for good"


class State(StrEnum):
    """The worst first. Only `RUNNING` needs nobody."""

    UNKNOWN = "unknown"  # its topics or its group can't be looked at
    HALTED = "halted"  # it ended by itself, and a restart alone does not help
    STUCK = "stuck"  # records wait, and are not answered
    NO_MEMBER = "no member"
    NOT_READY = "not ready"  # a driver says so
    LOADING = "loading"
    RUNNING = "running"


_WORST: Final = {state: place for place, state in enumerate(State)}


@dataclass(slots=True)
class Recent:
    """What the reports of one pipeline told lately."""

    model: str = ""
    revision: str = ""
    last_ms: int | None = None
    last_dead_ms: int | None = None
    last_dead: str = ""
    ended: Event | None = None
    """How the member ended that the last report is of."""
    gone: set[str] = field(default_factory=set)
    """Members that ended, by slot: brokers count a static one as a member until its session times out."""
    _settles: deque[Report] = field(default_factory=deque)

    def add(self, report: Report) -> None:
        """Take a report in."""
        if report.model.revision != UNKNOWN:
            self.model, self.revision = report.model.name, report.model.revision
        self.gone.discard(report.member)
        self.ended = None
        if report.event is not None:
            if report.event.what == "ended":
                self.ended = report.event
                self.gone.add(report.member)
            return
        self.last_ms = max(self.last_ms or 0, report.time_ms)
        if report.dead_letters:
            self.last_dead_ms = report.time_ms
            self.last_dead = max(report.dead_letters, key=lambda code: report.dead_letters[code])
        self._settles.append(report)

    def lately(self, now_ms: int) -> Lately:
        """The last minute."""
        while self._settles and self._settles[0].time_ms < now_ms - LATELY_MS:
            self._settles.popleft()
        found = Lately()
        latencies: Counter[int] = Counter()
        largest = settled = 0
        for report in self._settles:
            found.results += report.results
            found.dead_letters.update(report.dead_letters)
            latencies.update(dict(report.latency_ms.counts))
            largest = max(largest, report.latency_ms.max)
            if report.time_ms >= now_ms - RATE_MS:
                settled += report.results + sum(report.dead_letters.values()) + sum(report.skipped.values())
        found.rate = settled / (RATE_MS / 1000)
        found.p50_ms, found.p99_ms = (percentile(latencies, share, largest) for share in (0.5, 0.99))
        return found


@dataclass(slots=True)
class Lately:
    """The last minute's results, dead letters by code and latencies, and the rate of the last ten seconds."""

    results: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    rate: float = 0.0
    p50_ms: int | None = None
    p99_ms: int | None = None

    @property
    def dead_share(self) -> float | None:
        """Dead letters among all that was answered; None where nothing was."""
        dead = self.dead_letters.total()
        return dead / (dead + self.results) if dead + self.results else None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a pipeline. `lag` is a text where it can't be told why, `members` None where they can't be
    asked for, `recent` None without reports; `replicas` are the drivers that answer."""

    name: str
    group: str
    lag: PipelineLag | str
    members: Mapping[str, int] | None
    replicas: Sequence[Replica]
    recent: Recent | None
    now_ms: int

    @property
    def living(self) -> Mapping[str, int] | None:
        """The members, without those that said that they ended."""
        if self.members is None or self.recent is None:
            return self.members
        return {name: count for name, count in self.members.items() if name not in self.recent.gone}


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
        return self.state is State.RUNNING


def worst_first(found: Sequence[Status]) -> list[Status]:
    """By state, then by how far behind they are."""
    return sorted(found, key=lambda each: (_WORST[each.state], -(each.lag_s or 0), -(each.lag_records or 0)))


def status_of(facts: Facts) -> Status:
    """All that there is to say of a pipeline."""
    lag, recent = facts.lag, facts.recent
    lately = recent.lately(facts.now_ms) if recent is not None else None
    state, why = judge(facts)
    running = next((each for each in facts.replicas if each.model), None)
    counted: dict[str, int | float | None] = {}
    if isinstance(lag, PipelineLag):
        rate = lately.rate if lately is not None and recent is not None and recent.last_ms else lag.rate_out
        counted = {
            "partitions": len(lag.partitions),
            "rate": rate,
            "lag_records": lag.records,
            "lag_s": lag.seconds,
            "drain_s": 0.0 if not lag.records else lag.records / rate if rate else None,
        }
    return Status(
        facts.name,
        state,
        why,
        members=None if facts.living is None else len(facts.living),
        **counted,  # type: ignore[arg-type]
        dead_letters=dict(lately.dead_letters) if lately else None,
        dead_share=lately.dead_share if lately else None,
        p50_ms=lately.p50_ms if lately else None,
        p99_ms=lately.p99_ms if lately else None,
        model=running.model if running else recent.model if recent else "",
        revision=running.revision if running else recent.revision if recent else "",
        last_settled_ms=recent.last_ms if recent else None,
        last_dead_letter=recent.last_dead if recent else "",
        last_dead_letter_ms=recent.last_dead_ms if recent else None,
    )


def judge(facts: Facts) -> tuple[State, list[str]]:
    """The state, and sentences that say why, and what to do about it."""
    lag, recent, members = facts.lag, facts.recent, facts.living
    unready = list(dict.fromkeys(reason for each in facts.replicas if each.ready is False for reason in each.reasons))
    down = [reason for reason in unready if _DOWN in reason]
    if isinstance(lag, str):
        return State.UNKNOWN, [lag, *unready]
    if down:
        return State.HALTED, down
    ended = recent.ended if recent is not None and not members else None
    if ended is not None and ended.exit_code == ExitCode.HALTED:
        why = f"it halted: {ended.reason}" if ended.reason else "it halted"
        return State.HALTED, [f"{why}; correct that, then start `streamer run` again", *map(str, lag.standing)]
    if lag.standing:
        return State.STUCK, list(map(str, lag.standing))
    waits = f"{lag.records:,} records wait, the oldest for {duration(lag.seconds)}" if lag.records else ""
    if not members and _LOADING in unready:
        return State.LOADING, [f"its model is being loaded{waits and f'; {waits}'}"]
    if members is not None and not members:
        last = f"; the last one ended with exit code {ended.exit_code}: {ended.reason}" if ended is not None else ""
        start = f"start `streamer run --pipeline {facts.name}`"
        return State.NO_MEMBER, [f"no member is in group {facts.group}{last}{waits and f'; {waits}'}; {start}"]
    if lag.records and _stands(lag, recent, facts.now_ms):
        look = "look at the log of its drivers, and at their /readyz"
        return State.STUCK, [f"{waits}, and nothing is being settled; {look}", *unready]
    if _LOADING in unready and len(facts.replicas) == sum(each.ready is False for each in facts.replicas):
        return State.LOADING, unready
    return (State.NOT_READY, unready) if unready else (State.RUNNING, [])


def _stands(lag: PipelineLag, recent: Recent | None, now_ms: int) -> bool:
    """Whether records have waited for half a minute, and none was settled in that time, as far as anybody can say."""
    if lag.seconds is not None and lag.seconds < STANDING_S:
        return False
    if recent is not None and recent.last_ms is not None and now_ms - recent.last_ms < STANDING_S * 1000:
        return False
    return not lag.rate_out
