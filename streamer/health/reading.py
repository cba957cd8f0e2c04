"""Where reading begins, whether all that was there at the start is folded, and whether the topics are as they were."""

from __future__ import annotations

import time
from collections import Counter

from streamer.config.load import Config
from streamer.core.health.keeper import Keeper
from streamer.core.record import TopicPartition
from streamer.health.app import HealthApp
from streamer.health.feedback.labels import Labels
from streamer.kafka.health_topics import Places


class Reading:
    """One life of a Faust app, as far as offsets go. `taken` counts by topic what the agents took."""

    def __init__(self, config: Config, keeper: Keeper, labels: Labels) -> None:
        self._config, self._keeper, self._labels = config, keeper, labels
        self._reports = config.telemetry.reports
        self.topics = [self._reports, *filter(None, [labels.topic])]
        self.taken: Counter[str] = Counter()
        self._ends: dict[TopicPartition, int] = {}
        self._fetched: int | None = None
        self._caught_up = False

    def begin(self) -> dict[TopicPartition, int]:
        """All partitions to read, with the offset that each is read from. Blocks; raises StreamerError."""
        places = Places(self._config.kafka)
        bounds = places.bounds(self.topics)
        self._ends = {place: end for place, (_, end) in bounds.items()}
        starts = {}
        for place, (first, end) in bounds.items():
            if place[0] == self._reports:
                starts[place] = _start(self._keeper.upto(place[1]), first, end)
                self._keeper.begin_at(place[1], starts[place])
        if self._labels.topic:
            since_ms = time.time_ns() // 1_000_000 - self._config.health.horizon_s * 1000
            for place, offset in places.since(self._labels.topic, since_ms).items():
                starts[place] = self._labels.begin(place[1], offset, *bounds[place])
        return starts

    def caught_up(self, app: HealthApp) -> bool:
        """Whether the reports that were there at the start are folded: fetched to the end, and what was fetched by
        then is taken. Offsets of records alone don't tell, as the last one is a transaction's marker."""
        if self._caught_up:
            return True
        if self._fetched is None:
            ends = [(app.position(place), end) for place, end in self._ends.items() if place[0] == self._reports]
            if any((position or 0) < end for position, end in ends):
                return False
            self._fetched = app.fetched(self._reports)
        self._caught_up = self.taken[self._reports] >= self._fetched
        return self._caught_up

    def changed(self) -> bool:
        """Whether a topic has got partitions, or was recreated. Blocks; raises StreamerError."""
        bounds = Places(self._config.kafka).bounds(self.topics)
        return set(bounds) != set(self._ends) or any(end < self._upto(place) for place, (_, end) in bounds.items())

    def _upto(self, place: TopicPartition) -> int:
        upto = self._keeper.upto(place[1]) if place[0] == self._reports else self._labels.upto.get(place[1])
        return upto or 0


def _start(known: int | None, first: int, end: int) -> int:
    """Where to read on: where we were, or at the beginning where that is no place of this log."""
    return known if known is not None and first <= known <= end else first
