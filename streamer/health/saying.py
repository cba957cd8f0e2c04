"""What the app writes, and when: windows that have ended, states, drift, quality, dead letters, and snapshots."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from streamer.config.load import Config
from streamer.core.health.keeper import Keeper
from streamer.core.health.words import (
    MAX_SNAPSHOT_BYTES,
    FeedbackWord,
    QualityWord,
    StateWord,
    WindowKey,
    WindowWord,
    Word,
    encode,
)
from streamer.health.alarms import Alarms
from streamer.health.drift import Change, Drift
from streamer.health.feedback.grades import Grades
from streamer.health.feedback.labels import Labels
from streamer.health.feedback.memories import Memories
from streamer.health.publisher import Publisher, Said
from streamer.health.traces import tell
from streamer.telemetry.health_metrics import HealthMetrics
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer

log = logging.getLogger(__name__)

SNAPSHOT_EVERY_S: Final = 60.0
LOOK_EVERY_S: Final = 5.0


@dataclass(slots=True)
class _Batch:
    """What is written at one time, and from what it was taken: it is given back where it can't be written."""

    keys: list[WindowKey] = field(default_factory=list)
    windows: list[WindowWord] = field(default_factory=list)
    states: list[StateWord] = field(default_factory=list)
    moves: list[Change] = field(default_factory=list)
    grades: list[QualityWord] = field(default_factory=list)
    letters: list[Said] = field(default_factory=list)
    written: Mapping[int, int] = field(default_factory=dict)
    head: FeedbackWord | None = None
    records: list[Said] = field(default_factory=list)
    snapshots: list[Said] = field(default_factory=list)


class Saying:
    """Says what the others have come to. `caught_up` is whether all reports from before the start are folded: until
    then nothing of them is said. `unsaved` says that a snapshot would hold something new. `tracer` sends spans of what
    was said."""

    def __init__(
        self,
        config: Config,
        keeper: Keeper,
        drift: Drift,
        labels: Labels,
        grades: Grades,
        memories: Memories,
        alarms: Alarms,
        metrics: HealthMetrics,
        tracer: ToolTracer = NO_SPANS,
    ) -> None:
        self._tracer = tracer
        self.caught_up = self.unsaved = False
        self._topic = config.health.topic
        self._keeper, self._drift, self._labels, self._grades = keeper, drift, labels, grades
        self._memories, self._alarms, self._metrics = memories, alarms, metrics
        self._publisher = Publisher(config.kafka)
        self._snapshot_at = self._look_at = 0.0

    async def say(self, *, final: bool = False) -> None:
        """Write all that is new; one call at a time. What can't be written is written next time."""
        batch, began_ns = _Batch(), time.time_ns()
        try:
            await self._gather(batch, final)
        except Exception as error:  # nobody else would notice, and what was taken would be lost
            log.error("new records can't be built", extra={"data": {"error": type(error).__name__}})
            self._give_back(batch)
            return
        if not batch.records and not batch.snapshots:
            return
        try:
            is_written = await asyncio.to_thread(self._publisher.publish, batch.records, batch.snapshots)
        except Exception as error:
            is_written = False
            log.warning("the producer failed", extra={"data": {"error": type(error).__name__}})
        if not is_written:
            log.warning("nothing can be written now; trying again", extra={"data": {"topic": self._topic}})
            self._give_back(batch)
            return
        self._metrics.windows_written(len(batch.windows))
        tell(self._tracer, began_ns, batch.windows, batch.states)
        self._labels.written = dict(batch.written)
        self._drift.written(batch.moves)
        if batch.head is not None:
            self._memories.written(batch.head)

    def close(self) -> None:
        """Drop what is not acknowledged."""
        self._publisher.close()

    async def _gather(self, batch: _Batch, final: bool) -> None:
        looks = self.caught_up and time.monotonic() >= self._look_at
        for key, word in await asyncio.to_thread(self._drift.news) if looks and not final else ():
            self._drift.take(key, word, _now_ms())
        looks = looks and self.caught_up
        now_s, now_ms = time.monotonic(), _now_ms()
        batch.keys = self._keeper.due(now_ms) if self.caught_up else []
        batch.windows = self._keeper.words(batch.keys)
        self._drift.closed(batch.windows)
        if looks:
            self._look_at = now_s + LOOK_EVERY_S
            batch.moves = await self._drift.look(self._keeper, now_ms)
            batch.states = self._alarms.look(self._keeper, now_ms)
        # From here to the snapshots nothing is waited for: all of it is of one moment, so that no snapshot says of a
        # report, or of a label, that it was taken while what follows from it is not among the records.
        batch.written, memory = self._labels.written, None
        if self.caught_up:
            batch.grades = self._grades.words(self._keeper.fold, now_s, now_ms, final=final)
            batch.letters, batch.written = self._labels.refused()
            memory = self._memories.due(now_s, final=final)
        words: list[Word] = [*batch.windows, *batch.states, *batch.grades]
        batch.records = [*batch.letters, *map(self._said, words)]
        batch.records += [self._changed(key, word) for key, word in batch.moves]
        if (self.unsaved or batch.written != self._labels.written) and (final or now_s >= self._snapshot_at):
            self._snapshot_at = now_s + SNAPSHOT_EVERY_S
            self.unsaved = False
            batch.snapshots += filter(None, [self._snapshot(now_ms, batch.written)])
        if memory is not None:
            changes, head = await asyncio.to_thread(self._memories.parts, memory, now_s, now_ms)
            batch.records += [self._changed(key, word) for key, word in changes]
            batch.snapshots.append(self._said(head))
            batch.head = head

    def _give_back(self, batch: _Batch) -> None:
        self.unsaved = self._labels.unsaved = True
        self._keeper.say_again(batch.keys)
        self._alarms.say_again(batch.states)
        self._labels.refuse_again(batch.letters)
        self._grades.say_again(batch.grades)
        self._metrics.failure("publish")

    def _snapshot(self, now_ms: int, written: Mapping[int, int]) -> Said | None:
        for drift in (self._drift.drifts.snapshot(), b""):  # without it, the last two hours are judged again
            said = self._said(self._keeper.snapshot(now_ms, written, drift))
            if len(said.value or b"") <= MAX_SNAPSHOT_BYTES:
                return said
        self._metrics.failure("snapshot")
        return None

    def _said(self, word: Word) -> Said:
        return self._changed(word.key, word)

    def _changed(self, key: str, word: Word | None) -> Said:
        return Said(self._topic, key.encode(), None if word is None else encode(word))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
