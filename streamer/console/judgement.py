"""What state a pipeline is in, and which of two needs somebody first. Pure; None is what nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from streamer.config.pipeline import PipelineConfig
from streamer.console.series import PipelineSeries
from streamer.core.standing import Reason
from streamer.errors import ExitCode
from streamer.ops.lag import PipelineLag
from streamer.ops.status import STANDING_S
from streamer.telemetry.scrape import Replica

STUCK_MS: Final = int(STANDING_S * 1000)  # as `streamer status` has it
LAG_WARN_S, LAG_BAD_S = 60.0, 600.0  # as deploy/prometheus alerts
SHARE_WARN, SHARE_BAD = 0.01, 0.1

Level = Literal["bad", "warn", "ok", "unknown"]


class State(StrEnum):
    """The states of a pipeline, the one that needs somebody most first."""

    HALTED = "halted"  # it ended by itself, or a partition is held back: its records ended `crash_limit` processes
    STUCK = "stuck"  # records wait, and nothing is settled
    NOT_READY = "not ready"  # a driver says so
    NO_MEMBER = "no member"  # nobody reads
    UNKNOWN = "unknown"  # the brokers are away, or nothing tells of it
    FALLING_BEHIND = "falling behind"  # the oldest record that waits is old, and ages
    DEAD_LETTERS = "dead letters"  # too many of the outcomes are dead letters
    CATCHING_UP = "catching up"  # records wait, and are settled
    WORKING = "working"  # outcomes came in the last ten seconds, and nothing is late
    IDLE = "idle"  # nothing waits


ORDER: Final = {state: number for number, state in enumerate(State)}
LEVELS: Final[dict[State, Level]] = {
    State.HALTED: "bad",
    State.STUCK: "bad",
    State.NOT_READY: "bad",
    State.NO_MEMBER: "bad",
    State.UNKNOWN: "unknown",
    State.FALLING_BEHIND: "warn",
    State.DEAD_LETTERS: "warn",
    State.CATCHING_UP: "ok",
    State.WORKING: "ok",
    State.IDLE: "ok",
}


@dataclass(frozen=True, slots=True)
class Driver:
    """What a driver said last, and how long ago; `forward_mean` is its records a forward batch."""

    replica: Replica
    forward_mean: float | None
    silent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of one pipeline. `lag` is a text where it can't be told why; `config` None where the pipeline is
    known by its reports alone; `members` counts its group's, None where we may not see them."""

    name: str
    config: PipelineConfig | None
    series: PipelineSeries
    lag: PipelineLag | str | None
    drivers: Sequence[Driver] = ()
    members: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what to do about it: sentences without a full stop."""

    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A pipeline's state and what is wrong, the worst first."""

    state: State
    problems: list[Problem] = field(default_factory=list)


def judge(situation: Situation, *, reached: bool, now_ms: int) -> Verdict:
    """The pipeline's state; see `State`."""
    if not reached:
        return Verdict(State.UNKNOWN)  # the page says why, once for all
    lag, series = situation.lag, situation.series
    problems = _standing(lag)
    if isinstance(lag, PipelineLag) and any(each.reason is Reason.HELD for each in lag.standing):
        return Verdict(State.HALTED, problems)
    if problems:
        return Verdict(State.STUCK, problems)
    nobody = situation.members == 0 and isinstance(lag, PipelineLag)  # else the group may only be hidden from us
    ended = series.ended if nobody else None
    if ended is not None and ended.exit_code == ExitCode.HALTED:
        what = f"It halted: {ended.reason}" if ended.reason else "It halted"
        return Verdict(State.HALTED, [Problem(what, "correct that, then start `streamer run` again")])
    unready = dict.fromkeys(
        reason
        for each in situation.drivers
        if each.replica.ready is False and not each.silent_s
        for reason in each.replica.reasons
    )
    if unready:  # before it has a model, a driver is no member yet
        return Verdict(State.NOT_READY, [Problem(reason, "see the driver's log") for reason in unready])
    if nobody:
        return Verdict(State.NO_MEMBER, [_nobody(situation)])
    waiting = lag.records if isinstance(lag, PipelineLag) else None
    now = series.now(now_ms)
    if isinstance(lag, PipelineLag) and lag.records and (why := _stuck(lag, series, now_ms)):
        return Verdict(State.STUCK, [why])
    if isinstance(lag, str):
        return Verdict(State.UNKNOWN, [Problem(lag)])
    if waiting is None and now is None:
        return Verdict(State.UNKNOWN, [Problem("No reports and no offsets have been read yet")])
    assert lag is None or isinstance(lag, PipelineLag)
    if lag and lag.records and (lag.seconds or 0.0) >= LAG_WARN_S and series.grows:
        what = f"{lag.records:,} records are waiting, and the oldest is getting older: more come in than are settled"
        return Verdict(State.FALLING_BEHIND, [Problem(what, "add replicas or workers, or look for a slow record")])
    share = series.dead_share(now_ms)
    if share is not None and share > SHARE_WARN:
        what = f"{share * 100:.1f} % of the outcomes of the last five minutes are dead letters"
        return Verdict(State.DEAD_LETTERS, [Problem(what, "look at their causes under Dead letters")])
    working = now is not None and now["settle_records"] is not None
    if waiting and ((lag and (lag.seconds or 0.0) >= LAG_WARN_S) or not working):
        return Verdict(State.CATCHING_UP)
    return Verdict(State.WORKING if working else State.IDLE)


def rank(verdict: Verdict, lag: PipelineLag | str | None, name: str) -> tuple[int, int, str]:
    """What sorts the worst first. Delays count by their order of magnitude, so that rows do not swap every second."""
    seconds = lag.seconds if isinstance(lag, PipelineLag) and LEVELS[verdict.state] != "ok" else None
    return ORDER[verdict.state], -int(seconds or 0).bit_length(), name


def lag_level(seconds: float | None) -> Level:
    """How bad it is to be so far behind."""
    return _level(seconds, LAG_WARN_S, LAG_BAD_S)


def share_level(share: float | None) -> Level:
    """How bad it is that so many outcomes are dead letters."""
    return _level(share, SHARE_WARN, SHARE_BAD)


def _level(value: float | None, warn: float, bad: float) -> Level:
    if value is None:
        return "unknown"
    return "bad" if value > bad else "warn" if value > warn else "ok"


def _standing(lag: PipelineLag | str | None) -> list[Problem]:
    if not isinstance(lag, PipelineLag):
        return []
    # A partition that is held back comes first: it is what the state says.
    stands = sorted(lag.standing, key=lambda one: one.reason is not Reason.HELD)
    return [Problem(str(one).removesuffix(f"; {one.fix}"), one.fix) for one in stands]


def _nobody(situation: Situation) -> Problem:
    lag = situation.lag
    waiting = f", and {lag.records:,} records wait" if isinstance(lag, PipelineLag) and lag.records else ""
    group = situation.config.group if situation.config else situation.name
    ended = situation.series.ended
    last = f"; the last one ended with exit code {ended.exit_code}: {ended.reason}" if ended is not None else ""
    what = f"Group {group} has no member: nobody reads{waiting}{last}"
    return Problem(what, f"start it with `streamer run --pipeline {situation.name}`; if it halted, its log says why")


def _stuck(lag: PipelineLag, series: PipelineSeries, now_ms: int) -> Problem | None:
    """What waits for less than half a minute is on its way: after a quiet hour the last settle is an hour old, too."""
    if lag.rate_out or (lag.seconds is not None and lag.seconds * 1000 < STUCK_MS):
        return None
    look = "look at the driver's log and /readyz, or run `streamer doctor`"
    if series.known_ms is not None:
        quiet_since_ms = series.last_ms if series.last_ms is not None else series.known_ms
        if now_ms - quiet_since_ms >= STUCK_MS:
            return Problem(f"{lag.records:,} records are waiting, and nothing was settled for half a minute", look)
    elif lag.rate_out == 0:
        return Problem(f"{lag.records:,} records are waiting, and the settled offsets do not move", look)
    return None
