"""The rules of all pipelines: measured on the windows, judged, said where something changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from streamer.core.health.alerts.alerts import judge, rings
from streamer.core.health.alerts.drifts import Told
from streamer.core.health.alerts.rules import DRIFT, QUALITY, SILENT, Measured, Rule, measure
from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import MINUTE_MS
from streamer.core.health.words import StateWord

AGAIN_MS = 60_000
"""How often a state is said that has not changed: the value moves, and who reads the topic sees that we live."""


class Watch:
    """Judges rules. `standing` is the last word on each by key; its times go on over a restart."""

    def __init__(self, rules: Iterable[Rule], standing: Mapping[str, StateWord]) -> None:
        self.rules = list(rules)
        self.standing = dict(standing)
        self._said_ms: dict[str, int] = {}

    def look(
        self,
        keeper: Keeper,
        silent_s: Mapping[str, float],
        drift: Mapping[str, Told],
        now_ms: int,
        labels: Callable[[Rule, str, bool], Told | None] = lambda *_: None,
    ) -> tuple[list[StateWord], list[StateWord]]:
        """Judge all rules now. What is to be said on the topic, and of that what somebody is to be called for.
        `silent_s` says of configured pipelines for how long none of their waiting records was settled, `drift` how many
        monitors say drift, `labels` what a rule measures of a pipeline's labels, given whether it fires."""
        said, calls = [], []
        for pipeline in sorted({*keeper.pipelines, *silent_s}):
            for rule in self.rules:
                before = self.standing.get(f"{pipeline}/{rule.name}")
                told = drift.get(pipeline) if rule.metric == DRIFT else None
                if rule.metric in QUALITY:
                    told = labels(rule, pipeline, before is not None and before.state == "firing")
                measured = told.measured if told else self._measure(rule, pipeline, keeper, silent_s, now_ms)
                if measured is None:
                    continue
                word = judge(rule, pipeline, measured, now_ms, before)
                if told is not None and told.what:
                    word = msgspec.structs.replace(word, what=told.what)
                self.standing[word.key] = word
                changed = before is None or before.state != word.state
                if changed or now_ms - self._said_ms.get(word.key, 0) >= AGAIN_MS:
                    self._said_ms[word.key] = now_ms
                    said.append(word)
                if rings(before, word):
                    calls.append(word)
        return said, calls

    def say_again(self, words: Iterable[StateWord]) -> None:
        """These could not be said after all."""
        for word in words:
            self._said_ms.pop(word.key, None)

    def _measure(
        self, rule: Rule, pipeline: str, keeper: Keeper, silent_s: Mapping[str, float], now_ms: int
    ) -> Measured | None:
        if rule.metric == DRIFT or rule.metric in QUALITY:
            return None
        if rule.metric == SILENT:
            return Measured(silent_s[pipeline], 1) if pipeline in silent_s else None
        since_ms = now_ms - rule.over_s * 1000
        since_ms -= since_ms % MINUTE_MS
        windows = [window for window in keeper.fold.windows(pipeline, MINUTE_MS, since_ms) if window.start_ms <= now_ms]
        return measure(rule, windows)
