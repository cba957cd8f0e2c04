"""A pipeline with all its parts, ready to run, and what there is to say of its health."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamer.app.announcer import Announcer
from streamer.app.driver import Driver
from streamer.app.life import Life
from streamer.app.observe import Signals, Watchdog, unready
from streamer.core.pipeline.pipeline import Pipeline
from streamer.kafka.sink import KafkaSink
from streamer.kafka.slots import Slot
from streamer.kafka.source.source import KafkaSource
from streamer.telemetry.metrics import Metrics

STANDING_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a start has put together. `closers` end what outlives the driver. One of several members `may_stand_by`,
    without a partition."""

    driver: Driver
    pipeline: Pipeline
    source: KafkaSource
    sink: KafkaSink
    slot: Slot
    metrics: Metrics
    watchdog: Watchdog
    signals: Signals
    life: Life
    announcer: Announcer
    may_stand_by: bool
    closers: tuple[Callable[[float], None], ...]

    def close(self, timeout_s: float) -> None:
        """Close what outlives the driver: telemetry last, since all others still report; then the slot."""
        for close in self.closers:
            close(timeout_s)
        self.slot.release()

    def unready(self) -> list[str]:
        """What keeps the pipeline from serving."""
        return unready(
            self.pipeline,
            owns=bool(self.source.ownership.epochs) or (self.may_stand_by and not self.source.awaits_group),
            plan_since=self.sink.plan_since,
            standings=self.signals.standings,
            now=time.monotonic(),
        )

    def standing(self) -> list[str]:
        """Which of our own loops stand still; broken dependencies are not among the reasons, since a restart of ours
        does not fix them."""
        now = time.monotonic()
        reasons = self.driver.standing(STANDING_S)
        if self.pipeline.card is not None and now - self.source.polled_at > STANDING_S:
            reasons.append(f"the source has not polled for {now - self.source.polled_at:.0f} s")
        busy_since = self.sink.busy_since
        if busy_since is not None and now - busy_since > self.watchdog.limit_s:
            reasons.append(f"the sink has been at one plan for {now - busy_since:.0f} s")
        return reasons
