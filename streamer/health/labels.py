"""Feedback as it comes: read, refused, or joined with the result that is looked up for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from streamer.config.load import Config
from streamer.core.health.feedback import Place, Refused, place_of, read, refusal_headers
from streamer.core.health.fold import DAY_MS, Fold
from streamer.core.health.join import Absent, Joiner, Outcome, Result
from streamer.errors import StreamerError
from streamer.health.app import Message
from streamer.health.publisher import Said
from streamer.kafka.lookup import ResultLookUp
from streamer.telemetry.health_metrics import HealthMetrics

log = logging.getLogger(__name__)

MOST_FRESH: Final = 5_000
LOOK_UPS: Final = 1_000
IDLE_S: Final = 0.25
FAILED_S: Final = 5.0


class Labels:
    """All feedback on the configured pipelines. `written` says by partition up to where refused messages are in the
    dead-letter topic: those are not written again when the topic is read again."""

    def __init__(self, config: Config, metrics: HealthMetrics) -> None:
        self.topic = config.health.feedback
        self.joiner = Joiner(config.health.horizon_s)
        self.upto: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self._config, self._metrics = config, metrics
        # Results that went by key are on other partition numbers than their events.
        found = {name: each for name, each in config.pipelines.items() if each.partitioning == "same"}
        self._inputs: Mapping[str, list[str]] = {name: each.input for name, each in found.items()}
        self._refused: list[Said] = []

    @property
    def is_full(self) -> bool:
        """Whether so many are to be looked up that no more are to be taken now."""
        return self.joiner.fresh >= MOST_FRESH

    def take(self, message: Message) -> None:
        """Take one message."""
        self.upto[message.partition] = message.offset + 1
        said = read(message.value, message.time_ms)
        if isinstance(said, Refused):
            self._note("", self.joiner.count("", "refused"))
            if message.offset >= self.written.get(message.partition, 0):
                headers = refusal_headers(said, self.topic, message.partition, message.offset)
                self._refused.append(Said(f"{self.topic}.dlq", message.key, message.value, headers))
            return
        place = place_of(said.feedback, self._inputs)
        if place is None:
            self._note("", self.joiner.count("", "unknown"))
            return
        self._note(place.pipeline, self.joiner.take(place, said, _now_ms()))

    def refused(self) -> tuple[list[Said], dict[int, int]]:
        """The dead letters to write now, and up to where they are written then."""
        found, self._refused = self._refused, []
        return found, dict(self.upto)

    def refuse_again(self, letters: list[Said]) -> None:
        """These could not be written after all."""
        self._refused = letters + self._refused

    async def look_up(self) -> None:
        """Look results up for ever."""
        while True:
            try:
                with ResultLookUp(self._config.kafka) as results:
                    while True:
                        await self._look_up(results)
            except StreamerError as error:
                self._metrics.failure("look_up")
                log.warning("results can't be looked up", extra={"data": {"error": str(error)}})
            except Exception as error:  # nobody else would notice that this has ended
                self._metrics.failure("look_up")
                log.error("results can't be looked up", extra={"data": {"error": type(error).__name__}})
            await asyncio.sleep(FAILED_S)

    async def _look_up(self, results: ResultLookUp) -> None:
        places = self.joiner.wanted(_now_ms(), LOOK_UPS)
        grouped: dict[tuple[str, str, int], list[Place]] = defaultdict(list)
        for place in places:
            grouped[place[:3]].append(place)
        failed: StreamerError | None = None
        for (pipeline, topic, partition), together in grouped.items():
            output, events = self._config.pipelines[pipeline].output, [place.offset for place in together]
            found: list[Result | Absent]
            try:
                found = await asyncio.to_thread(results.find, output, partition, topic, events)
            except StreamerError as error:  # of one topic or partition: those of others are found
                failed = error
                continue
            for place, result in zip(together, found, strict=True):
                self._note(pipeline, self.joiner.found(place, result, _now_ms()))
        if failed is not None:
            raise failed
        if not places:
            await asyncio.sleep(IDLE_S)

    def page(self, fold: Fold) -> dict[str, Any]:
        """What came of the feedback on each pipeline; "" is what names none."""
        self.joiner.count_waiting()
        since_ms = _now_ms() - self._config.health.horizon_s * 1000
        pipelines = {}
        for name, tally in sorted(self.joiner.tallies.items()):
            results = sum(window.results for window in fold.windows(name, DAY_MS, since_ms - since_ms % DAY_MS))
            pipelines[name] = {
                "outcomes": tally.outcomes,
                "waiting": tally.waiting,
                "labels": tally.labels,
                "agreed": tally.agreed,
                "accuracy": tally.agreed / tally.labels if tally.labels else None,
                "lag_p50_s": tally.lag(0.5),
                "lag_p90_s": tally.lag(0.9),
                "coverage": tally.places / results if results else None,
            }
        return {"horizon_s": self._config.health.horizon_s, "pipelines": pipelines}

    def _note(self, pipeline: str, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._metrics.feedback(pipeline, outcome)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
