"""What has been seen of one revision of a pipeline's model: its windows as they close, held against its saved baseline
and against the same hour of the days before. `Past` is how it stood before each window, to go back to where a late
report has changed one."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple

import msgspec

from streamer.core.health.drift.baseline import Baseline
from streamer.core.health.drift.finding import Finding, alpha_of
from streamer.core.health.drift.watch import Watch, settled
from streamer.core.health.windows.window import Window
from streamer.core.health.words import BaselineWord, DriftWord
from streamer.core.tally import duration


class Judged(msgspec.Struct):
    """One revision, up to `until_ms`. `saved_ms` is when its baseline was saved, 0 without one; `seasonal` are the
    monitors whose finding comes from the same hour of the days before, and `unsure` those that have moved against a
    baseline that has not seen this hour of the day; `confidence` is that of the last window. It can be encoded and
    decoded as it is."""

    pipeline: str
    revision: str
    saved_ms: int
    until_ms: int = 0
    frozen: Watch = msgspec.field(default_factory=Watch)
    season: Watch = msgspec.field(default_factory=Watch)
    findings: list[Finding] = []
    seasonal: list[str] = []
    unsure: list[str] = []
    has_season: bool = False
    confidence: list[int] | None = None

    def look(self, window: Window, known: BaselineWord | None, season: Baseline | None, monthly: float) -> None:
        """Take the next closed window. `monthly` is how many false alarms a month the pipeline may raise."""
        self.until_ms = window.end_ms
        self.has_season = season is not None
        frozen = known.baseline if known is not None else None
        leading = frozen or season
        alpha = alpha_of(monthly, len(leading.references) if leading is not None else 1, window.length_ms)
        said = self.frozen.look(window, frozen, alpha) if frozen is not None else []
        usual = self.season.look(window, season, alpha) if season is not None else []
        raised = {one.monitor for one in self.findings if one.state == "drift"}
        self.findings = settled(said, usual, covers_a_week=frozen is not None and frozen.covers_a_week)
        self.seasonal = [one.monitor for one in self.findings if any(one is other for other in usual)]
        self.unsure = []
        if known is not None and not known.steady and not known.baseline.knows(window.start_ms):
            self._doubt(known.baseline, raised)
        self.confidence = window.confidence

    def _doubt(self, frozen: Baseline, raised: Set[str]) -> None:
        """Compared with a few hours of the day, every evening looks like a move. So it is drift only where the season
        says so, too. What was raised in another hour stays until it is seen to be over."""
        why = "has not seen this hour"
        if not frozen.covers_a_day:
            why = f"covers {duration((frozen.until_ms - frozen.since_ms) / 1000)} only"
        found = []
        for one in self.findings:
            if one.state == "drift" and one.monitor not in {*self.seasonal, *raised}:
                self.unsure.append(one.monitor)
                what = f"{one.what}: that may be the hour of the day, as the baseline {why}"
                one = msgspec.structs.replace(one, state="insufficient", what=what)
            found.append(one)
        self.findings = found

    def words(self) -> list[DriftWord]:
        """What each monitor says."""
        return [
            DriftWord(
                pipeline=self.pipeline,
                revision=self.revision,
                against="season" if one.monitor in self.seasonal else "baseline",
                time_ms=self.until_ms,
                **msgspec.structs.asdict(one),
            )
            for one in self.findings
        ]


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Judged).decode


class _Before(NamedTuple):
    records: int
    state: bytes


class Past:
    """The past of one revision. A window is known by its start and by how many records it had."""

    def __init__(self) -> None:
        self._before: dict[int, _Before] = {}

    def keep(self, window: Window, judged: Judged) -> None:
        """It is judged now; `judged` is how its revision stands without it."""
        self._before[window.start_ms] = _Before(window.records, _encode(judged))

    def rewound(self, windows: Iterable[Window]) -> Judged | None:
        """How the revision stood before the first of these windows that was judged as something else, or not at all
        although later ones were. None where there is none, and of those before all that is known here."""
        oldest, newest = min(self._before, default=0), max(self._before, default=-1)
        changed = [
            window.start_ms
            for window in windows
            if oldest <= window.start_ms <= newest
            and ((known := self._before.get(window.start_ms)) is None or known.records != window.records)
        ]
        if not changed:
            return None
        back_ms = min(start_ms for start_ms in self._before if start_ms >= min(changed))
        state = self._before[back_ms].state
        self._before = {start_ms: one for start_ms, one in self._before.items() if start_ms < back_ms}
        return _decode(state)

    def forget(self, before_ms: int) -> None:
        """What is older is judged no more."""
        self._before = {start_ms: one for start_ms, one in self._before.items() if start_ms >= before_ms}
