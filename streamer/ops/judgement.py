"""The state of a pipeline, and which of two needs attention first: for `streamer status` and the console alike. Pure;
None is what nobody knows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from streamer.core.standing import Reason
from streamer.core.tally import duration
from streamer.errors import ExitCode
from streamer.ops.lag import PipelineLag
from streamer.ops.series import PipelineSeries
from streamer.telemetry.scrape import Replica

STANDING_MS: Final = 30_000
LATE_S: Final = 60.0  # as deploy/prometheus alerts
DEAD_SHARE: Final = 0.01
_LOADING: Final = "no worker is ready"
_DOWN: Final = "is down for good"

Level = Literal["bad", "warn", "ok", "unknown"]


class State(StrEnum):
    """The states of a pipeline, the one that needs somebody most first."""

    HALTED = "halted"  # it ended by itself, and a restart alone does not help
    STUCK = "stuck"  # a partition is stuck, or records have waited for half a minute and none was settled in that time
    NO_MEMBER = "no member"  # nobody runs it
    NOT_READY = "not ready"  # a driver says so
    UNKNOWN = "unknown"  # the brokers are down, a topic or a right is missing, or nothing is known about it
    FALLING_BEHIND = "falling behind"  # the oldest record waits for more than a minute, and gets older
    DEAD_LETTERS = "dead letters"  # more than 1 % of the outcomes of the last five minutes
    LOADING = "loading"  # all its drivers load the model
    BEHIND = "behind"  # the oldest record waits for more than a minute, and records are settled
    WORKING = "working"  # records come and are settled, and nothing is late
    IDLE = "idle"  # nothing waits


ORDER: Final = {state: number for number, state in enumerate(State)}
_WARN: Final = (State.FALLING_BEHIND, State.DEAD_LETTERS, State.LOADING)
_OK: Final = (State.BEHIND, State.WORKING, State.IDLE)


def level_of(state: State) -> Level:
    """How bad a state is; only what is "ok" needs nobody."""
    if state is State.UNKNOWN:
        return "unknown"
    return "ok" if state in _OK else "warn" if state in _WARN else "bad"


@dataclass(frozen=True, slots=True)
class PipelineInfo:
    """What is known of a pipeline. `lag` is a text where it can't be told why, None where nobody has looked; `members`
    are the slots or ids of the group's, None where we may not see them; `replicas` are the drivers that answer now."""

    name: str
    group: str
    lag: PipelineLag | str | None
    members: Collection[str] | None
    replicas: Sequence[Replica]
    series: PipelineSeries
    now_ms: int

    @property
    def living(self) -> int | None:
        """How many members there are, without those that said that they ended."""
        return None if self.members is None else sum(each not in self.series.gone for each in self.members)

    @property
    def known_lag(self) -> PipelineLag | None:
        """The lag, where it is known."""
        return self.lag if isinstance(self.lag, PipelineLag) else None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what to do about it: sentences without a full stop."""

    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what


@dataclass(frozen=True, slots=True)
class Verdict:
    """A pipeline's state and what is wrong, the worst first. Only what needs nobody has no problem."""

    state: State
    problems: list[Problem] = field(default_factory=list)


def judge(info: PipelineInfo) -> Verdict:
    """The state, see `State`: what ended comes first, then what stands, who is there, what drivers say, and what is
    late."""
    lag, series = info.known_lag, info.series
    unready = [each for each in info.replicas if each.ready is False]
    reasons = list(dict.fromkeys(reason for each in unready for reason in each.reasons))
    said = [Problem(reason, "see the driver's log") for reason in reasons] or [
        Problem("a driver says that it is not ready", "see its log") for _ in unready[:1]
    ]
    hidden = [Problem(info.lag)] if isinstance(info.lag, str) else []
    stands = _standing(lag)
    nobody = lag is not None and info.living == 0  # else the group may only be hidden from us
    if down := [reason for reason in reasons if _DOWN in reason]:
        return Verdict(State.HALTED, [*(Problem(each, "see its log") for each in down), *stands, *hidden])
    # Before it has a model, a driver is no member yet.
    loads = bool(unready) and len(unready) == len(info.replicas) and all(_LOADING in each.reasons for each in unready)
    unseen = not info.living and not info.replicas  # as far as we may see: then the last word that there is counts
    halted = series.ended if series.ended is not None and series.ended.exit_code == ExitCode.HALTED else None
    if halted is not None and (nobody or unseen) and not loads:
        what = f"it halted: {halted.reason}" if halted.reason else "it halted"
        return Verdict(State.HALTED, [Problem(what, "correct that, then start `streamer run` again"), *stands, *hidden])
    if stands:
        return Verdict(State.STUCK, [*stands, *([_nobody(info)] if nobody and not unready else [])])
    if loads and not info.living:
        what = f"its model is being loaded{_last(info)}{_waits(lag, '; ')}"
        return Verdict(State.LOADING, [Problem(what), *hidden])
    if nobody and not unready:
        return Verdict(State.NO_MEMBER, [_nobody(info)])
    stuck = _stuck(info)
    if stuck and not nobody:
        look = "look at the log of its drivers and at their /readyz, or run `streamer doctor`"
        return Verdict(State.STUCK, [Problem(stuck, look), *said])
    if unready:
        return Verdict(State.LOADING if loads else State.NOT_READY, [*said, *hidden])
    if hidden:
        return Verdict(State.UNKNOWN, hidden)
    return _at_work(info, lag)


def _at_work(info: PipelineInfo, lag: PipelineLag | None) -> Verdict:
    """The state of what neither stands nor lacks anything."""
    series, settles = info.series, info.series.settled_lately(info.now_ms)
    late = lag is not None and lag.records and (lag.seconds is None or lag.seconds >= LATE_S)
    if lag is None and not settles:
        what = "its offsets are not known, and no report tells of records in the last ten seconds"
        if series.last_ms is None:
            what = "neither its reports nor its offsets say anything about it"
        return Verdict(State.UNKNOWN, [Problem(what)])
    quiet = series.last_ms is None or info.now_ms - series.last_ms >= STANDING_MS
    if _waits_long(lag) and lag is not None and not lag.rate_out and quiet:
        return Verdict(State.UNKNOWN, [Problem(f"{_waits(lag)}, and it is not known yet whether they are settled")])
    if late and series.grows:
        what = f"{_waits(lag)}, and it is getting older: more come in than are settled"
        return Verdict(State.FALLING_BEHIND, [Problem(what, "add replicas or workers, or look for a slow record")])
    share = series.dead_share(info.now_ms)
    if share is not None and share > DEAD_SHARE:
        what = f"{share * 100:.1f} % of the outcomes of the last five minutes are dead letters"
        return Verdict(State.DEAD_LETTERS, [Problem(what, "look at their causes: `streamer dlq causes`")])
    if late:
        return Verdict(State.BEHIND)
    return Verdict(State.WORKING if settles or (lag is not None and lag.records) else State.IDLE)


def rank(state: State, lag_s: float | None, name: str) -> tuple[int, int, str]:
    """What sorts the worst first. Delays count by their order of magnitude, and not where all is well, so that rows do
    not swap every second."""
    late = 0 if level_of(state) == "ok" else int(lag_s or 0).bit_length()
    return ORDER[state], -late, name


def _standing(lag: PipelineLag | None) -> list[Problem]:
    """A partition that is held back comes first: it needs a decision, the others may end by themselves."""
    stands = sorted(lag.standing if lag else (), key=lambda one: one.reason is not Reason.HELD)
    return [Problem(str(one).removesuffix(f"; {one.fix}"), one.fix) for one in stands]


def _nobody(info: PipelineInfo) -> Problem:
    what = f"no member is in group {info.group}{_last(info)}{_waits(info.known_lag, '; ')}"
    return Problem(what, f"start `streamer run --pipeline {info.name}`")


def _last(info: PipelineInfo) -> str:
    """How the last member ended; "" where one has started since, or nobody knows."""
    ended = info.series.ended
    if ended is None:
        return ""
    return f"; the last member ended with exit code {ended.exit_code}{f': {ended.reason}' if ended.reason else ''}"


def _waits(lag: PipelineLag | None, before: str = "") -> str:
    """As in "7 records are waiting, the oldest for 31.0 s"; "" where none does."""
    if lag is None or not lag.records:
        return ""
    wait = "record is waiting" if lag.records == 1 else "records are waiting"
    # Of records whose producer's clock is ahead, it is 0.
    age = "" if not lag.seconds else f", the oldest for {duration(lag.seconds)}"
    return f"{before}{lag.records:,} {wait}{age}"


def _waits_long(lag: PipelineLag | None) -> bool:
    """Whether a record may have waited for half a minute."""
    return lag is not None and lag.records > 0 and (lag.seconds is None or lag.seconds * 1000 >= STANDING_MS)


def _stuck(info: PipelineInfo) -> str:
    """That records have waited for half a minute, and none was settled in that time; "" where that is not so, or nobody
    can say. What waits for less is on its way: after a quiet hour the last settle is an hour old, too."""
    lag, series = info.known_lag, info.series
    if lag is None or lag.rate_out or not _waits_long(lag):
        return ""
    if series.last_ms is not None and info.now_ms - series.last_ms < STANDING_MS:
        return ""
    reported_ms, moved_ms = series.last_ms or series.known_ms, series.moved_ms
    if series.known_ms is not None and reported_ms is not None and info.now_ms - reported_ms >= STANDING_MS:
        return f"{_waits(lag)}, and nothing is being settled"
    if lag.rate_out == 0 and moved_ms is not None and info.now_ms - moved_ms >= STANDING_MS:
        return f"{_waits(lag)}, and the settled offsets do not move"
    return ""
