"""Watch: what the monitors of a pipeline say as windows come, against one baseline.

A monitor looks when it has seen enough records, after an hour at the latest; what it looks at then is tumbling, no
record is in two of them. It raises drift when the last ones in a row each show a move that matters and all together
are certain. A large move it sees earlier, once each of a row shows it. It clears when the move or its certainty has
fallen under 0.8 of what raised it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from streamer.core.health.drift.baseline import Baseline, Reference
from streamer.core.health.drift.deviation import BaselineComparison, compare, needed
from streamer.core.health.drift.finding import Finding, State, finding, watched
from streamer.core.health.drift.monitors import Monitor, Sums
from streamer.core.health.sums import added
from streamer.core.health.windows.fold import HOUR_MS
from streamer.core.health.windows.window import Window

LONGEST_MS = HOUR_MS
CLEARS_AT = 0.8
IN_A_ROW = 2
"""Stretches that must show a move before drift is raised."""


class Stretch(msgspec.Struct):
    """What a monitor read from windows in a row, table by table."""

    start_ms: int
    end_ms: int
    tables: list[Sums]

    @property
    def records(self) -> int:
        """The records of the table that has the fewest."""
        return min((sums.records for sums in self.tables), default=0)

    def with_(self, tables: list[Sums], end_ms: int) -> Stretch:
        """The stretch with these windows added."""
        if self.tables and tables:
            tables = _together([self.tables, tables])
        return Stretch(self.start_ms, end_ms, tables or self.tables)


class MonitorCourse(msgspec.Struct):
    """One monitor so far: what it said last, the stretch that still grows, and the ones before."""

    finding: Finding | None = None
    growing: Stretch | None = None
    past: list[Stretch] = []

    @property
    def drifting(self) -> bool:
        """Whether it has raised drift."""
        return self.finding is not None and self.finding.state == "drift"

    def forget(self) -> None:
        """Start over after a silence. What was ok before says nothing about now; drift stays until it is seen to be
        over."""
        self.past, self.growing = [], None
        if not self.drifting:
            self.finding = None


class Watch(msgspec.Struct):
    """The monitors of one revision of a pipeline's model against one baseline. It can be encoded and decoded as it
    is."""

    revision: str = ""
    courses: dict[str, MonitorCourse] = {}

    def look(self, window: Window, baseline: Baseline, alpha: float) -> list[Finding]:
        """Take the next closed window, and say what holds now: a finding for each monitor that the baseline knows and
        that has seen something, in the order of explanation. `alpha` is how unlikely chance must be. Windows come in
        the order of time. Another model starts over."""
        if window.revision != self.revision:
            self.revision, self.courses = window.revision, {}
        found = []
        for monitor, tables, references in watched(window, baseline):
            course = self.courses.setdefault(monitor.name, MonitorCourse())
            self._continue(course, window, tables, len(references))
            growing = course.growing
            if growing and growing.tables:
                self._look(course, monitor, references, alpha)
            elif growing and growing.end_ms - growing.start_ms >= LONGEST_MS:
                course.forget()
            if course.finding:
                found.append(course.finding)
        return found

    def _continue(self, course: MonitorCourse, window: Window, tables: list[Sums], expected: int) -> None:
        kept = [*course.past, *([course.growing] if course.growing else [])]
        last_ms = kept[-1].end_ms if kept else window.start_ms
        if window.start_ms - last_ms > LONGEST_MS or any(len(one.tables) not in (0, expected) for one in kept):
            course.forget()
        growing = course.growing or Stretch(window.start_ms, window.start_ms, [])
        course.growing = growing.with_(tables, window.start_ms + window.length_ms)

    def _look(self, course: MonitorCourse, monitor: Monitor, references: Sequence[Reference], alpha: float) -> None:
        growing = course.growing
        assert growing is not None
        row = [*course.past, growing]
        least = needed(monitor, references)
        enough = sum(one.records for one in row) >= least and growing.records >= least / IN_A_ROW
        looks = enough or growing.end_ms - growing.start_ms >= LONGEST_MS
        alone = (compare(monitor, one.tables, references) for one in reversed(row))
        large, of_few = False, course.finding is None or course.finding.n < course.finding.n_min
        was: State = course.finding.state if course.finding else "insufficient"
        state = was
        if not enough:
            # The budget counts a look at each window, so that one may be taken before there are enough records.
            now = next(alone)
            large = now.is_large(alpha)
            if large and len(row) >= IN_A_ROW and all(one.is_large(alpha) for one in alone):
                state = "drift"
            elif looks and not large and (was != "drift" or (of_few and _fades(now, alpha))):
                state = "insufficient"
        if enough or of_few or state != was:
            together = _together([one.tables for one in row])
            found = compare(monitor, together, references)
            if enough:
                state = self._state(course, found, alone, alpha)
            since_ms = row[0].start_ms
            if course.finding and course.finding.state == state:
                since_ms = course.finding.since_ms
            end_ms = growing.end_ms
            course.finding = finding(monitor, state, together, references, found, alpha, since_ms, end_ms)
        if looks or large:
            course.growing, course.past = None, row[1 - IN_A_ROW :]

    def _state(
        self, course: MonitorCourse, found: BaselineComparison, alone: Iterable[BaselineComparison], alpha: float
    ) -> State:
        """What as many records say as it takes; `alone` is what each of a row says."""
        if course.drifting:
            stays = found.strength >= CLEARS_AT and found.p(1 / CLEARS_AT) < alpha
            return "drift" if stays else "ok"
        if len(course.past) + 1 < IN_A_ROW or found.strength < 1 or found.p() >= alpha:
            return "ok"
        # One window that is far off moves the sum of both: each must show its part.
        least = max(1.0, found.strength / 2)
        return "drift" if all(one.strength >= least for one in alone) else "ok"


def _together(rows: Iterable[list[Sums]]) -> list[Sums]:
    return [sums for column in zip(*rows, strict=True) if (sums := added(column))]


def _fades(now: BaselineComparison, alpha: float) -> bool:
    """Whether fewer records than it takes say that a large move, which no more have raised, is seen no longer. Of any
    other move they say nothing, so that it stays."""
    return now.n >= now.n_large and not now.is_large(alpha, CLEARS_AT)


def settled(frozen: Sequence[Finding], season: Sequence[Finding], *, covers_a_week: bool) -> list[Finding]:
    """One finding for each monitor from both baselines, in the order of explanation: the frozen one of the model, and
    the same hour of the days before.

    Each may raise drift: the frozen one sees what creeps, the other what the hour of the day hides. But a frozen
    baseline shorter than a week takes evenings or Sundays for drift, so that the other's word counts where it has one.
    """
    by_season = {one.monitor: one for one in season}
    found = []
    for one in frozen:
        other = by_season.pop(one.monitor, None)
        if other is None:
            found.append(one)
        elif not covers_a_week and other.state != "insufficient":
            found.append(other)
        else:
            ranks: dict[State, int] = {"insufficient": 0, "ok": 1, "drift": 2}
            found.append(max(other, one, key=lambda finding: ranks[finding.state]))
    return found + list(by_season.values())
