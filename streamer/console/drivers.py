"""What the drivers' own /metrics and /readyz say: asked again and again, and kept for a while after the last answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from streamer.telemetry.scrape import Replica, scraped

LOOK_S: Final = 2.0
STALE_S: Final = 8.0  # an answer that is older is shown as such
FORGET_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Driver:
    """What a driver said last, and how long ago; `forward_mean` is its records a forward batch."""

    replica: Replica
    forward_mean: float | None
    silent_s: float = 0.0


@dataclass(slots=True)
class _Said:
    replica: Replica
    forward_mean: float | None
    at_s: float


class Drivers:
    """Asks the drivers at these URLs; `by_pipeline` and `silent` may be called from any thread."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.urls = list(urls)
        self._lock = threading.Lock()
        self._said: dict[str, _Said] = {}
        self._silent: dict[str, str] = {}

    def watch(self, stop: threading.Event) -> None:
        """Ask until `stop` is set."""
        with ThreadPoolExecutor(8, thread_name_prefix="console-scrape") as pool:
            while not stop.is_set():
                for url, answer in zip(self.urls, pool.map(scraped, self.urls), strict=True):
                    self.note(url, answer, time.monotonic())
                stop.wait(LOOK_S)

    def note(self, url: str, answer: Replica | str, now_s: float) -> None:
        """Take in an answer, or why there is none."""
        with self._lock:
            before = self._said.get(url)
            if isinstance(answer, str):
                self._silent[url] = answer
                if before and now_s - before.at_s > FORGET_S:
                    del self._said[url]
                return
            self._silent.pop(url, None)
            batches, records = answer.forward_batches, answer.forward_records
            if before and before.replica.forward_batches <= batches and before.replica.forward_records <= records:
                batches -= before.replica.forward_batches
                records -= before.replica.forward_records
            self._said[url] = _Said(answer, records / batches if batches else None, now_s)

    def by_pipeline(self, now_s: float) -> dict[str, list[Driver]]:
        """The drivers of each pipeline, as they last answered."""
        found: dict[str, list[Driver]] = {}
        with self._lock:
            for said in self._said.values():
                age_s = now_s - said.at_s
                driver = Driver(said.replica, said.forward_mean, age_s if age_s > STALE_S else 0.0)
                found.setdefault(said.replica.pipeline, []).append(driver)
        return found

    @property
    def silent(self) -> dict[str, str]:
        """Why those that do not answer now do not, by URL."""
        with self._lock:
            return dict(self._silent)
