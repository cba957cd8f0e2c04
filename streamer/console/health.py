"""Model health for the page: follows the health topic, as the health app writes it, in a thread of the feed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from streamer.config.load import Config
from streamer.console.source import Source
from streamer.core.health import words
from streamer.core.health.fold import FIVE_MINUTES_MS, HOUR_MS
from streamer.core.health.picture import Picture, headline, picture
from streamer.core.health.view import HealthView
from streamer.core.record import Record
from streamer.kafka.reader import Reader
from streamer.kafka.replay import TopicLog

NO_TOPIC_S: Final = 15.0
LENGTHS: Final = {"5m": FIVE_MINUTES_MS, "1h": HOUR_MS}
_RANK: Final = {"bad": 0, "warn": 1, "unknown": 2, "ok": 3}


class Health:
    """What the topic has said. `follow` runs in one thread, and the others may be called from any."""

    def __init__(self, config: Config) -> None:
        self.source = Source()
        self._config = config
        self._lock = threading.Lock()
        self._view = HealthView()

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
            return None if view is None else picture(name, view, LENGTHS[length], now_ms)

    def take(self, key: str, value: bytes | None, now_ms: int) -> None:
        """Know a record of the topic."""
        with self._lock:
            _take(self._view, key, value, now_ms)

    def follow(self, stop: threading.Event, failed: Callable[[str], None], answered: Callable[[], None]) -> None:
        """Read the topic from its beginning, and then what comes, until `stop`. Raises StreamerError."""
        log, topic = TopicLog(self._config.kafka), self._config.health.topic
        while log.describe([topic])[topic] is None:
            failed(f"there is no topic {topic}, the health app has not run here")
            if stop.wait(NO_TOPIC_S):
                return
        with Reader(self._config.kafka, [topic]) as reader:
            view = HealthView()  # nobody is to see what was said before the last word
            for record in reader.read_until_end():
                _take(view, *_read(record), _now_ms())
                if stop.is_set():
                    return
            with self._lock:
                self._view = view
            answered()
            while not stop.is_set():
                for record in reader.poll(0.5):
                    self.take(*_read(record), _now_ms())


def _read(record: Record) -> tuple[str, bytes | None]:
    return (record.key() or b"").decode(errors="replace"), record.value()


def _take(view: HealthView, key: str, value: bytes | None, now_ms: int) -> None:
    if view.wants(key, len(value or b""), now_ms):
        word = words.decode(value)
        if word is not None or value is None:  # else another program's, or of a kind to come
            view.take(key, word)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
