"""Model health for the page: follows the health topic, as the health app writes it, in a thread of the feed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from streamer.config.load import Config
from streamer.console.source import Source
from streamer.core.health import words
from streamer.core.health.pages.picture import Picture, headline, picture
from streamer.core.health.pages.view import KEEP, HealthView
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS
from streamer.core.record import Record
from streamer.kafka.health_topics import Places
from streamer.kafka.reader import Reader
from streamer.kafka.replay import TopicLog

NO_TOPIC_S: Final = 15.0
_LOOK_EVERY: Final = 1_000
"""Older records between looks at what comes."""
BACK_MS: Final = KEEP[HOUR_MS] * HOUR_MS
"""How far back all is read: no older window is shown."""
OLDER_RECORDS: Final = 200_000
"""Records of each partition that are read from before that, for what was said once and still holds: baselines."""
LENGTHS: Final = {"5m": FIVE_MINUTES_MS, "1h": HOUR_MS}
_RANK: Final = {"bad": 0, "warn": 1, "unknown": 2, "ok": 3}


class Health:
    """What the topic has said. `follow` runs in one thread, and the others may be called from any."""

    def __init__(self, config: Config) -> None:
        self.source = Source()
        self._config = config
        self._lock = threading.Lock()
        self._view, self._whole, self._cut = HealthView(), True, False

    def overview(self, now_ms: int) -> dict[str, Any]:
        """Each pipeline in a line, the worst first."""
        with self._lock:
            lines = [(name, headline(view, now_ms)) for name, view in self._view.pipelines.items()]
        lines.sort(key=lambda line: (_RANK[line[1].level], line[0]))
        pipelines = [{"name": name, "level": one.level, "state": one.state, "what": one.what} for name, one in lines]
        own = self._config.health
        return {"error": self.source.error, "topic": own.topic, "feedback": own.feedback, "pipelines": pipelines}

    def picture(self, name: str, length: str, now_ms: int) -> Picture | None:
        """One pipeline whole; None where nothing was said of it."""
        with self._lock:
            view = self._view.pipelines.get(name)
            return (
                None if view is None else picture(name, view, LENGTHS[length], now_ms, whole=self._whole, cut=self._cut)
            )

    def take(self, key: str, value: bytes | None, now_ms: int) -> set[str]:
        """Know a record of the topic; its key, if that is taken back."""
        with self._lock:
            return _take(self._view, key, value, now_ms)

    def follow(self, stop: threading.Event, failed: Callable[[str], None], answered: Callable[[], None]) -> None:
        """Read what the topic says of the last day, and then what comes, until `stop`; meanwhile what is older, as far
        back as it may matter. Raises StreamerError."""
        log, topic = TopicLog(self._config.kafka), self._config.health.topic
        while log.describe([topic])[topic] is None:
            failed(f"there is no topic {topic}, the health app has not run here")
            if stop.wait(NO_TOPIC_S):
                return
        kafka = self._config.kafka
        places, now_ms = Places(kafka), _now_ms()
        starts, older = places.since(topic, now_ms - DAY_MS), places.since(topic, now_ms - BACK_MS)
        firsts = {each: first for each, (first, _) in places.bounds([topic]).items()}
        begins = {each: max(firsts.get(each, 0), offset - OLDER_RECORDS) for each, offset in older.items()}
        cut = any(offset > firsts.get(each, 0) for each, offset in begins.items())
        gone = set[str]()
        with Reader(kafka, [topic], start=starts) as reader, Reader(kafka, [topic], start=begins) as behind:
            view = HealthView()  # nobody is to see what was said before the last word
            for record in reader.read_until_end():
                gone |= _take(view, *_read(record), _now_ms())
                if stop.is_set():
                    return
            with self._lock:
                self._view, self._whole, self._cut = view, False, cut
            answered()
            view = HealthView()
            for count, record in enumerate(behind.read_until_end(ends=starts)):
                if (record.offset() or 0) < starts[record.topic() or "", record.partition() or 0]:
                    _take(view, *_read(record), _now_ms())
                if count % _LOOK_EVERY == 0:  # not by offsets, of which compaction leaves few
                    gone |= self._follow(reader, 0)
                if stop.is_set():
                    return
            for key in gone:
                view.take(key, None)
            with self._lock:
                self._view.put_before(view)
                self._whole = True
            while not stop.is_set():
                self._follow(reader, 0.5)

    def _follow(self, reader: Reader, wait_s: float) -> set[str]:
        """Know what comes; the keys that were taken back."""
        gone = set[str]()
        for record in reader.poll(wait_s):
            gone |= self.take(*_read(record), _now_ms())
        return gone


def _read(record: Record) -> tuple[str, bytes | None]:
    return (record.key() or b"").decode(errors="replace"), record.value()


def _take(view: HealthView, key: str, value: bytes | None, now_ms: int) -> set[str]:
    """Know a record; its key, if that is taken back and no window's, of which there are many."""
    if view.wants(key, len(value or b""), now_ms):
        word = words.decode(value)
        if word is not None or value is None:  # else another program's, or of a kind to come
            view.take(key, word)
    return {key} if value is None and not HealthView.is_window(key) else set()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
