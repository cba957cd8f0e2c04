"""How the health app judges drift, read from its topic: for who looks at it without the app's pages."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from streamer.config.load import Config
from streamer.core.health.alerts.drifts import to_save
from streamer.core.health.alerts.rules import DRIFT
from streamer.core.health.words import DriftWord, StateWord
from streamer.errors import ConfigurationError
from streamer.health.summary.status import clock
from streamer.kafka.health_topics import read_words

log = logging.getLogger(__name__)

BACK_MS = 15 * 60_000
"""The app writes each state once a minute, and what monitors say after each five minutes."""
STALE_MS = 3 * 60_000


class DriftStanding(NamedTuple):
    """The state of a pipeline's rule about drift, and what its monitors say, as far as it was said lately."""

    state: StateWord
    monitors: list[DriftWord]

    def sentence(self, now_ms: int) -> str:
        """In a line; an app that is gone judges nothing."""
        at_ms = self.state.time_ms
        if now_ms - at_ms > STALE_MS:
            return f"drift was last judged at {clock(at_ms, now_ms)}: the health app is not running"
        return f"drift, {self.state.state}: {self.state.what.removeprefix(f'{self.state.pipeline}: ')}"

    def described(self, now_ms: int) -> dict[str, Any]:
        """For machines."""
        return {
            "state": self.state.state,
            "says": self.sentence(now_ms),
            "time_ms": self.state.time_ms,
            "since_ms": self.state.since_ms,
            "monitors": self.monitors,
        }


def not_judged(pipeline: str) -> str:
    """What is to be said where no app has judged lately."""
    return (
        "drift is not judged, the health app has not spoken in the last quarter of an hour: streamer health run. It"
        f" judges against a baseline; {to_save(pipeline)}"
    )


def standings(config: Config, now_ms: int) -> dict[str, DriftStanding] | None:
    """By pipeline; nothing of those that no app has judged in the last quarter of an hour. None where the topic may not
    be read. Raises DependencyError."""
    found: dict[str, DriftStanding] = {}
    try:
        words = read_words(config.kafka, config.health.topic, now_ms - BACK_MS).values()
    except ConfigurationError as error:  # who only reads reports has no right to this topic
        log.warning("what the health app says about drift can't be read: %s", error)
        return None
    for word in words:
        if isinstance(word, StateWord) and word.metric == DRIFT:
            found[word.pipeline] = DriftStanding(word, [])
    for word in words:
        if isinstance(word, DriftWord) and word.pipeline in found:
            found[word.pipeline].monitors.append(word)
    return found
