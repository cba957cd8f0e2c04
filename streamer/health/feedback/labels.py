"""Feedback as it comes: read, refused, or joined with the result that is looked up for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from streamer.config.load import Config
from streamer.core.health.feedback.feedback import Place, Refused, place_of, read, reader_of, refusal_headers
from streamer.core.health.feedback.ids import Ids
from streamer.core.health.feedback.join import Absent, Joiner, Outcome, Result
from streamer.core.health.feedback.memory import packed, unpacked
from streamer.errors import StreamerError
from streamer.health.app import Message
from streamer.health.feedback.lanes import Lanes
from streamer.health.feedback.named import NamedResults
from streamer.health.publisher import Said
from streamer.telemetry.health_metrics import HealthMetrics

log = logging.getLogger(__name__)

MOST_FRESH: Final = 5_000
LOOK_UPS: Final = 1_000
IDLE_S: Final = 0.25
FAILED_S: Final = 5.0


class Labels:
    """All feedback on the configured pipelines. `upto` says by partition which message is new, `written` up to where
    refused messages are in the dead-letter topic: those are not written again when the topic is read again. `unsaved`
    says that a snapshot would hold something new."""

    def __init__(self, config: Config, metrics: HealthMetrics) -> None:
        self.topic = config.health.feedback
        self.joiner, self.ids = Joiner(config.health.horizon_s), Ids(config.health.horizon_s)
        self.upto: dict[int, int] = {}
        self.unsaved = False
        self._again: dict[tuple[int, int], int] = {}
        self.written: dict[int, int] = {}
        self._config, self._metrics = config, metrics
        self._inputs: Mapping[str, list[str]] = {name: each.input for name, each in config.pipelines.items()}
        self._refused: list[Said] = []

    @property
    def is_full(self) -> bool:
        """Whether so many are to be looked up that no more are to be taken now."""
        return self.joiner.fresh >= MOST_FRESH

    def take(self, message: Message) -> None:
        """Take one message."""
        attempts = None
        if message.offset < self.upto.get(message.partition, 0):
            attempts = self._again.pop((message.partition, message.offset), None)
            if attempts is None:  # it had its outcome before the snapshot
                return
        else:
            self.upto[message.partition] = message.offset + 1
        self.unsaved = True
        said = read(message.value, message.time_ms)
        if isinstance(said, Refused):
            self._note("", self.joiner.count("", "refused"))
            if message.offset >= self.written.get(message.partition, 0):
                headers = refusal_headers(said, self.topic, message.partition, message.offset)
                self._refused.append(Said(f"{self.topic}.dlq", message.key, message.value, headers))
            return
        said = said._replace(at=(message.partition, message.offset))
        place = place_of(said.feedback, self._inputs)
        if place is None:
            pipeline = reader_of(said.feedback, self._inputs)
            if pipeline is None:
                self._note("", self.joiner.count("", "unknown"))
                return
            place = self.ids.place(pipeline, said.feedback.id or "")
            if place is None:
                outcome = self.ids.wait(pipeline, said, attempts or 0)
                self._note(pipeline, outcome and self.joiner.count(pipeline, outcome))
                return
        if attempts is not None:
            self._note(place.pipeline, self.joiner.resume(place, said, _now_ms(), attempts))
            return
        self._note(place.pipeline, self.joiner.take(place, said, _now_ms()))

    def begin(self, partition: int, since: int, first: int, end: int) -> int:
        """Where to read a partition from that has the offsets from `first` to `end`, where nothing is known of it from
        `since` on."""
        upto = self.upto.get(partition)
        waiting = [offset for known, offset in self._again if known == partition]
        if upto is not None and first <= upto <= end:
            return max(first, min([upto, *waiting]))
        for offset in waiting:  # of another log with this name
            del self._again[partition, offset]
        if upto is not None:
            self.written.pop(partition, None)
        self.upto[partition] = since if upto is None else first
        return self.upto[partition]

    def memory(self) -> bytes:
        """All that is known, to go on from."""
        self.unsaved = False
        return packed(self.upto, self.joiner.joined({**self._again, **self.ids.unsettled()}))

    def restore(self, content: bytes) -> bool:
        """Go on from there; False, and nothing changed, where it can't be read."""
        found = unpacked(content)
        if found is None:
            return False
        try:
            self.joiner.restore(found.joined)
        except msgspec.MsgspecError:
            return False
        self.upto = found.upto
        self._again = {(each.partition, each.offset): each.attempts for each in found.joined.unsettled}
        return True

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
            lanes, named = Lanes(self._config), NamedResults(self._config)
            places: list[Place] = []
            try:
                while True:
                    await self._read_ids(named)
                    if places := self.joiner.wanted(_now_ms(), LOOK_UPS):
                        await lanes.find(places, self._found)
                    else:
                        await asyncio.sleep(IDLE_S)
            except StreamerError as error:
                self._metrics.failure("look_up")
                log.warning("results can't be looked up", extra={"data": {"error": str(error)}})
            except Exception as error:  # nobody else would notice that this has ended
                self._metrics.failure("look_up")
                log.error("results can't be looked up", extra={"data": {"error": type(error).__name__}})
            finally:
                lanes.close()
                named.close()
            for place, outcome in self.joiner.put_off(places, _now_ms()):
                self._note(place.pipeline, outcome)
            await asyncio.sleep(FAILED_S)

    async def _read_ids(self, named: NamedResults) -> None:
        now_ms = _now_ms()
        for pipeline in self.ids.pipelines:
            results, at_end = await named.read(pipeline, IDLE_S)
            for place, waited in self.ids.put(pipeline, results):
                if waited.attempts:
                    outcome = self.joiner.resume(place, waited.said, now_ms, waited.attempts)
                else:
                    outcome = self.joiner.take(place, waited.said, now_ms)
                self._note(pipeline, outcome)
                self.unsaved = True
            for _ in range(self.ids.early(pipeline) if at_end else 0):
                self._note(pipeline, self.joiner.count(pipeline, "early"))
                self.unsaved = True
        for pipeline in self.ids.given_up(now_ms):
            self._note(pipeline, self.joiner.count(pipeline, "unknown"))

    def _found(self, place: Place, result: Result | Absent) -> None:
        self._note(place.pipeline, self.joiner.found(place, result, _now_ms()))
        self.unsaved = True

    def _note(self, pipeline: str, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._metrics.feedback(pipeline, outcome)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
