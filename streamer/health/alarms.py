"""Judges the rules, says so in metrics and in the log, and calls somebody where that is due."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from streamer.config.health import HealthConfig, HealthRuleConfig
from streamer.core.health.alerts.rules import rules_of
from streamer.core.health.keeper import Keeper
from streamer.core.health.words import StateWord, encode
from streamer.health.drift import Drift
from streamer.health.feedback.labels import Labels
from streamer.health.rated import Rated
from streamer.health.watch import Watch
from streamer.health.webhook import Webhook
from streamer.telemetry.health_metrics import HealthMetrics

log = logging.getLogger(__name__)


class Alarms:
    """The rules of the configuration. `silent_s` says for how long each pipeline has let records wait, as far as the
    brokers were asked."""

    def __init__(self, health: HealthConfig, labels: Labels, drift: Drift, metrics: HealthMetrics) -> None:
        self.silent_s: dict[str, float] = {}
        self._drift, self._metrics = drift, metrics
        self._rated = Rated(labels, drift)
        self._watch = Watch(rules_of((name, _given(rule)) for name, rule in health.rules.items()), {})
        self._webhook = Webhook(health.webhook, lambda: metrics.failure("webhook")) if health.webhook else None

    @property
    def standing(self) -> Mapping[str, StateWord]:
        """How each rule stands, by key."""
        return self._watch.standing

    def restore(self, standing: Mapping[str, StateWord]) -> None:
        """Go on from the last words on the rules; those of other rules are left out."""
        names = {rule.name for rule in self._watch.rules}
        self._watch.standing = {key: word for key, word in standing.items() if word.rule in names}

    def look(self, keeper: Keeper, now_ms: int) -> list[StateWord]:
        """Judge all rules; what is to be said on the topic."""
        for pipeline, newest_ms in keeper.newest_ms.items():
            self._metrics.newest_report(pipeline, newest_ms)
        states, calls = self._watch.look(
            keeper,
            self.silent_s,
            self._drift.told,
            now_ms,
            lambda rule, pipeline, firing: self._rated.told(rule, pipeline, now_ms, firing=firing),
        )
        for word in self._watch.standing.values():
            self._metrics.rule(word.pipeline, word.rule, word.severity, word.state, word.value)
        for word in calls:
            level = logging.WARNING if word.state == "firing" else logging.INFO
            data = {"pipeline": word.pipeline, "name": word.rule, "state": word.state, "reason": word.what}
            log.log(level, "an alarm", extra={"data": data, "words": f"{word.state}: {word.what}"})
            if self._webhook is not None:
                self._webhook.call(encode(word))
        return states

    def say_again(self, words: Iterable[StateWord]) -> None:
        """These could not be said after all."""
        self._watch.say_again(words)

    def close(self) -> None:
        """Call nobody any more."""
        if self._webhook is not None:
            self._webhook.close()


def _given(rule: HealthRuleConfig) -> Mapping[str, object]:
    """What a rule of the configuration says."""
    fields = {name: getattr(rule, name) for name in rule.__struct_fields__}
    return {name: value for name, value in fields.items() if value not in (None, "")}
