"""Drift of all pipelines: what their revisions' monitors say, in words and as what the rule about drift measures."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from streamer.core.health.alerts.judged import Judged, Past
from streamer.core.health.alerts.rules import Measured
from streamer.core.health.drift.baseline import LEAST_WINDOWS
from streamer.core.health.drift.estimate import expected
from streamer.core.health.drift.finding import Finding
from streamer.core.health.drift.season import Season
from streamer.core.health.keeper import GRACE_MS
from streamer.core.health.windows.fold import FIVE_MINUTES_MS, HOUR_MS, Fold
from streamer.core.health.windows.window import Window
from streamer.core.health.words import BaselineWord, DriftWord
from streamer.core.tally import duration, plural

BACK_MS: Final = 2 * HOUR_MS
"""How far back the windows of a new revision are judged: every monitor looks at least once in that time."""
RETIRED_MS: Final = HOUR_MS // 2
"""A revision that settles nothing for so long while another one does is out of service."""
REWIND_MS: Final = 60_000
LEAST_RESULTS: Final = 1_000
"""A baseline of fewer says too little of what is usual."""
NAMED: Final = 3
NO_BASELINE: Final = "no baseline yet"

_decode = msgspec.json.Decoder(list[Judged]).decode


class Told(NamedTuple):
    """How a pipeline stands: how many monitors say drift, None where none does and some can't tell, and how many those
    are; and a sentence."""

    measured: Measured
    what: str


class Drifts:
    """All pipelines. `baselines` are those that were saved, by their words' keys. It has no clock: times are given."""

    def __init__(self, monthly: Callable[[str], float]) -> None:
        """`monthly` says of a pipeline how many false alarms a month it may raise."""
        self.baselines: dict[str, BaselineWord] = {}
        self.season = Season()
        self._judged: dict[tuple[str, str], Judged] = {}
        self._pasts: dict[tuple[str, str], Past] = {}
        self._rewound_ms: dict[str, int] = {}
        self._monthly = monthly

    def baseline(self, pipeline: str, revision: str) -> BaselineWord | None:
        """The saved baseline of a revision."""
        return self.baselines.get(f"{pipeline}/baseline/{revision}")

    def judged(self, pipeline: str) -> list[Judged]:
        """A pipeline's revisions that are in service, by their digests."""
        return [one for _, one in sorted(self._judged.items()) if one.pipeline == pipeline]

    def accuracy(self, one: Judged) -> float | None:
        """What the confidence of its last window lets one expect."""
        known = self.baseline(one.pipeline, one.revision)
        return expected(one.confidence, known.calibration if known is not None else None)

    def look(self, fold: Fold, pipeline: str, now_ms: int) -> None:
        """Judge the pipeline's windows that have closed since the last look. Where a late report has changed one that
        was judged before, that and all later ones are judged again, at most once a minute: what is said is then as if
        it had come in time. A revision whose baseline is saved again starts over."""
        windows = fold.windows(pipeline, FIVE_MINUTES_MS, now_ms - BACK_MS)
        windows = [window for window in windows if window.end_ms + GRACE_MS <= now_ms]
        lasts = {one.revision: one.until_ms for one in self.judged(pipeline)}
        for window in windows:
            lasts[window.revision] = max(window.end_ms, lasts.get(window.revision, 0))
        newest_ms = max(lasts.values(), default=0)
        for revision, last_ms in lasts.items():
            if newest_ms - last_ms >= RETIRED_MS:
                self._judged.pop((pipeline, revision), None)
                windows = [window for window in windows if window.revision != revision]
                self._pasts.pop((pipeline, revision), None)
        if now_ms - self._rewound_ms.get(pipeline, 0) >= REWIND_MS:
            self._rewound_ms[pipeline] = now_ms
            self._rewind(pipeline, windows, now_ms)
        for window in windows:
            self._judge(window)

    def words(self, pipelines: Iterable[str]) -> dict[str, DriftWord]:
        """What each monitor of these says, by key."""
        return {word.key: word for name in pipelines for one in self.judged(name) for word in one.words()}

    def told(self, pipeline: str) -> Told:
        """What the rule about drift is to know of a pipeline."""
        own = self.judged(pipeline)
        if not own:
            text = "no five minutes of the last two hours that are over have a result to judge drift by"
            if all(word.pipeline != pipeline for word in self.baselines.values()):
                text += f"; {NO_BASELINE}; {to_save(pipeline)}"
            return Told(Measured(None, 0), f"{pipeline}: {text}")
        findings = [finding for one in own for finding in one.findings]
        missing = [one for one in own if self.baseline(pipeline, one.revision) is None]
        unsure = [finding for one in own for finding in one.findings if finding.monitor in one.unsure]
        parts = [_what(findings, unsure)] if findings else []
        if not findings and not missing:
            parts.append("the baseline's monitors find nothing in what pipelines report")
        parts += [caveat for one in own if (caveat := self._caveat(one))]
        parts += [self._offer(one) for one in missing]
        parts += [
            f"accuracy is estimated at {accuracy:.1%}" for one in own if (accuracy := self.accuracy(one)) is not None
        ]
        drifting = sum(finding.state == "drift" for finding in findings)
        if unsure and not drifting:
            parts.append(f"a longer one tells: streamer health baseline save {pipeline} --replace")
        few = sum(finding.state == "insufficient" for finding in findings) + sum(not one.findings for one in own)
        records = max((finding.n for finding in findings), default=0)
        value = drifting if drifting or not few else None
        return Told(Measured(value, records, few), f"{pipeline}: {'; '.join(parts)}")

    def snapshot(self) -> bytes:
        """What was judged so far, without the baselines and the windows of the week: those are on the topic."""
        return zlib.compress(msgspec.json.encode([one for _, one in sorted(self._judged.items())]), level=1)

    def restore(self, snapshot: bytes) -> bool:
        """Go on from a snapshot; False, and nothing changed, where it can't be read."""
        try:
            found = _decode(zlib.decompress(snapshot))
        except (zlib.error, msgspec.MsgspecError):
            return False
        self._judged = {(one.pipeline, one.revision): one for one in found}
        return True

    def _rewind(self, pipeline: str, windows: Sequence[Window], now_ms: int) -> None:
        for one in self.judged(pipeline):
            key = pipeline, one.revision
            if (past := self._pasts.get(key)) is not None:
                past.forget(now_ms - BACK_MS)
                before = past.rewound(window for window in windows if window.revision == one.revision)
                if before is not None:
                    self._judged[key] = before

    def _judge(self, window: Window) -> None:
        key = window.pipeline, window.revision
        known = self.baseline(*key)
        saved_ms = known.saved_ms if known is not None else 0
        one = self._judged.get(key)
        if one is None or one.saved_ms != saved_ms:
            one = self._judged[key] = Judged(*key, saved_ms)
            self._pasts[key] = Past()
        if window.start_ms >= one.until_ms:
            self._pasts.setdefault(key, Past()).keep(window, one)
            season = self.season.reference(window.pipeline, window.start_ms)
            one.look(window, known, season, self._monthly(window.pipeline))

    def _caveat(self, one: Judged) -> str:
        """What is to be known of drift against a baseline that has not seen a week."""
        known = self.baseline(one.pipeline, one.revision)
        drifts = any(finding.state == "drift" for finding in one.findings)
        if known is None or known.baseline.covers_a_week or one.has_season or not drifts:
            return ""
        covers_s = (known.baseline.until_ms - known.baseline.since_ms) / 1000
        return f"the baseline covers {duration(covers_s)} only, so that it may be the hour of the day or the day"

    def _offer(self, one: Judged) -> str:
        windows, results = self.season.results(one.pipeline, one.revision)
        text = "judged by the same hour of the days before alone, no baseline yet" if one.has_season else NO_BASELINE
        if enough(windows, results):
            return f"{text}; {to_save(one.pipeline)}"
        return f"{text}: {too_few(windows, results)}"


def enough(windows: int, results: int) -> bool:
    """Whether a baseline can be made of so many windows that have results, and of so many results."""
    return windows >= LEAST_WINDOWS and results >= LEAST_RESULTS


def to_save(pipeline: str) -> str:
    """How to save a baseline."""
    return f"once all is as usual, save one: streamer health baseline save {pipeline}"


def too_few(windows: int, results: int) -> str:
    """What a baseline takes, and what there is."""
    return (
        f"it takes {LEAST_RESULTS:,} results, spread over {LEAST_WINDOWS} stretches of five minutes; there are"
        f" {results:,} in {windows:,}"
    )


def _what(findings: list[Finding], unsure: list[Finding]) -> str:
    """What moved, or that nothing did, or that it can't be told."""
    if drifting := [finding.what for finding in findings if finding.state == "drift"]:
        more = f"; {len(drifting) - NAMED} more monitors drift" if len(drifting) > NAMED else ""
        return "; ".join(drifting[:NAMED]) + more
    if unsure:
        more = f"; {len(unsure) - NAMED} more monitors have moved" if len(unsure) > NAMED else ""
        return "; ".join(finding.what for finding in unsure[:NAMED]) + more
    few = [finding for finding in findings if finding.state == "insufficient"]
    if len(few) == len(findings):
        best = max(few, key=lambda finding: finding.n / finding.n_min)
        return f"too few records to judge drift, {best.n:,} of the {best.n_min:,} that it takes"
    tail = f"; too few records to judge {', '.join(finding.monitor for finding in few)}" if few else ""
    return f"nothing moved of {plural(len(findings) - len(few), 'figure')}{tail}"
