"""Look at dead letters: why there are any, which, and one of them whole. Writes nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

from streamer.config.load import Config
from streamer.console.asked import Filter, place_of
from streamer.console.letters import cause_document, letter_document, whole_document
from streamer.core.deadletters.causes import Causes
from streamer.core.deadletters.letter import DeadLetter, Place, trace_id
from streamer.core.deadletters.replay import event_id
from streamer.errors import UsageError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.readings import readings_of
from streamer.kafka.replay import TopicLog
from streamer.ops.dlq.find import find, letter_at, read_closed
from streamer.ops.dlq.outcome import outcome

MAX_LETTERS: Final = 50


class Looks:
    """All calls block, and may run beside one another."""

    def __init__(self, config: Config, *, show_text: bool) -> None:
        self._config = config
        self._show_text = show_text
        self.topics = list(dict.fromkeys(pipeline.dead_letter for pipeline in config.pipelines.values()))

    def causes(self, wanted: Filter) -> dict[str, Any]:
        """Why there are dead letters, in all dead-letter topics of the configuration. `codes` and `pipelines` are those
        that were found."""
        began = time.monotonic()
        log, there = self.open()
        grouped = Causes()
        with nullcontext() if wanted.closed else read_closed(log) as closed:
            for letter in find(log, there, wanted.selection(), closed):
                grouped.add(letter)
        found = grouped.by_count()
        times = [time_ms for cause in found for time_ms in (cause.first_ms, cause.last_ms) if time_ms >= 0]
        first_ms, last_ms = min(times, default=0), max(times, default=0)
        return {
            "topics": there,
            "missing": [topic for topic in self.topics if topic not in there],
            "total": sum(cause.count for cause in found),
            "first_ms": first_ms or None,
            "last_ms": last_ms or None,
            "causes": [cause_document(cause, first_ms, last_ms, show_text=self._show_text) for cause in found],
            "pipelines": list(self._config.pipelines),
            "looked_ms": time.time_ns() // 1_000_000,
            "took_s": time.monotonic() - began,
        }

    def letters(self, wanted: Filter) -> dict[str, Any]:
        """The first dead letters that are asked for, and whether there are more."""
        log, there = self.open()
        with read_closed(log) as closed:
            picked = find(log, there, wanted.selection(), None if wanted.closed else closed)
            if wanted.text:
                place = place_of(wanted.text)
                at = letter_at(log, place) if place and place.topic in there else None
                picked = iter([at]) if at else filter(_meant(wanted.text), picked)
            found = list(itertools.islice(picked, MAX_LETTERS + 1))
            return {
                "letters": [
                    letter_document(letter, closed.find(letter), show_text=self._show_text)
                    for letter in found[:MAX_LETTERS]
                ],
                "more": len(found) > MAX_LETTERS,
            }

    def show(self, place: Place) -> dict[str, Any]:
        """One dead letter. Raises UsageError where there is none, or the topic is none of the configuration's."""
        if place.topic not in self.topics:
            raise UsageError(f"{place.topic} is not a dead-letter topic of the configuration")
        log = TopicLog(self._config.kafka, readings_of(self._config))
        letter = letter_at(log, place)
        if letter is None:
            raise UsageError(f"no record at {place}: it was deleted, or never existed")
        with read_closed(log) as closed:
            return whole_document(letter, closed.find(letter), show_text=self._show_text)

    def outcome(self, job: str) -> dict[str, Any]:
        """What became of the records that a job sent. Raises UsageError where there is no such job."""
        kafka = self._config.kafka
        return outcome(TopicLog(kafka), self._config, GroupOffsets(kafka), job).document()

    def open(self) -> tuple[TopicLog, list[str]]:
        """The log, and those of the dead-letter topics that are there."""
        log = TopicLog(self._config.kafka, readings_of(self._config))
        described = log.describe(self.topics)
        return log, [topic for topic in self.topics if described[topic] is not None]


def _meant(text: str) -> Callable[[DeadLetter], bool]:
    key = text.encode()
    return lambda letter: letter.record.key() == key or text in (letter.origin, event_id(letter), trace_id(letter))
