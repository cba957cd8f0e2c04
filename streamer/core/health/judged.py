"""What has been seen of one revision of a pipeline's model: its windows as they close, held against its saved baseline
and against the same hour of the days before."""

from __future__ import annotations

from collections.abc import Set

import msgspec

from streamer.core.health.baseline import Baseline
from streamer.core.health.budget import alpha_of
from streamer.core.health.drift import Finding
from streamer.core.health.watch import Watch, settled
from streamer.core.health.window import Window
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
