"""The console with pipelines that are made up, for looks at many of them: all of it is real but what the feed gathers.

python -m tests.made_console PIPELINES PORT serves it until Ctrl-C.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from streamer.config.load import load
from streamer.console.access import Access
from streamer.console.app import Console, make_app
from streamer.console.desk import Desk
from streamer.console.feed import Feed
from streamer.console.front import Front
from streamer.console.history import History
from streamer.console.looks import Looks
from streamer.core.health.words import encode
from streamer.core.report import Histogram, Model, Report
from streamer.core.standing import Reason, Standing
from streamer.ops.lag import PartitionLag, PipelineLag
from streamer.telemetry.scrape import Replica
from tests.health_kit import report
from tests.made_health import words

PARTITIONS = 50
# By what is wrong with a pipeline; the rest is well. The longest name is as long as a team, a market and a purpose.
TROUBLES = ("well", "stuck", "well", "nobody", "behind", "well", "failing", "held", "silent", "idle")
LONG = "customer-reviews-sentiment-multilingual-europe-west-production-v2"
HISTORY_S = 400
_LATENCY = Histogram([(10, 30), (13, 40), (16, 20), (20, 10), (25, 5), (32, 2), (100, 1)], 0, 100)


def names(pipelines: int) -> list[str]:
    """Names of all lengths."""
    return [LONG if number == 1 else f"pipeline-{number:02d}" for number in range(pipelines)]


class MadeFeed(Feed):
    """A feed that gathers nothing: it makes up a second of each pipeline's life each second."""

    def __init__(self, pipelines: int) -> None:
        fields = [
            f"pipelines.{name}.{field}={value}"
            for name in names(pipelines)
            for field, value in (
                ("task", "text-classification"),
                ("model", "builtin:null"),
                ("input", f"{name}.in"),
                ("output", f"{name}.out"),
            )
        ]
        super().__init__(load(None, {}, ["kafka.bootstrap_servers=127.0.0.1:1", *fields]), [])
        self.config = self._config
        self.away = threading.Event()
        now_ms = time.time_ns() // 1_000_000
        for time_ms in range(now_ms - HISTORY_S * 1000, now_ms, 1000):
            self._second(time_ms)

    def start(self) -> None:
        """See the class."""
        threading.Thread(target=self._live, daemon=True).start()

    def speak(self, pipeline: str, **how: bool) -> None:
        """The health app says how a pipeline's models are; see tests.made_health."""
        now_ms = time.time_ns() // 1_000_000
        self.health.source.error = ""
        for key, word in words(pipeline, now_ms, **how):
            self.health.take(key, encode(word), now_ms)

    def fall_silent(self) -> None:
        """The brokers do not answer any more."""
        with self._lock:
            self.away.set()
            self._offsets_source.error = "Kafka at 127.0.0.1:1 does not answer; start it"

    def _live(self) -> None:
        while not self._stop.wait(1):
            self._second(time.time_ns() // 1_000_000)

    def _second(self, now_ms: int) -> None:
        with self._lock:
            if self.away.is_set():
                return
            source = self._offsets_source
            source.error, source.answered_ms = "", now_ms
            for number, name in enumerate(self._config.pipelines):
                self._pipeline(number, name, TROUBLES[number % len(TROUBLES)], now_ms)

    def _pipeline(self, number: int, name: str, trouble: str, now_ms: int) -> None:
        wave = 1 + ((now_ms // 1000 + 7 * number) % 60) / 60
        series, results = self._series[name], round((80 + 30 * number) * wave)
        if trouble not in ("stuck", "nobody", "idle"):
            dead = results // 20 if trouble == "failing" else 0
            series.add(_report(name, now_ms, results, dead), now_ms)
        series.know(now_ms)
        late_s = {"stuck": 1_900.0, "nobody": 95.0, "behind": now_ms / 1000 % 3_600, "idle": 0.0}.get(trouble, 0.4)
        waiting = {"idle": 0, "behind": now_ms // 1000 % 100_000}.get(trouble, 12 if late_s < 1 else 48_210)
        stands = {"stuck": [_standing(name, Reason.OPEN_TRANSACTION)], "held": [_standing(name, Reason.HELD)] * 3}
        each = max(waiting // PARTITIONS, 1 if waiting else 0)
        partitions = [
            PartitionLag(
                f"{name}.in",
                one,
                10_000,
                10_000 + each,
                each,
                late_s,
                float(results),
                float(results) if late_s < 1 else 0.0,
            )
            for one in range(PARTITIONS)
        ]
        lag = PipelineLag(name, name, partitions, 12.0, stands.get(trouble, []))
        self._lags[name] = lag
        self._members[name] = [] if trouble == "nobody" else [str(one) for one in range(1 + number % 4)]
        series.note_lag(lag.records, lag.seconds, now_ms)
        if trouble != "nobody":
            url, slot = f"http://{name}", f"{name}-0"
            replica = Replica(url, pipeline=name, slot=slot, device="cpu", ready=True, workers_ready=2)
            silent_s = 95 if trouble == "silent" else 0
            self._drivers.note(url, replica, time.monotonic() - silent_s)


def _report(name: str, time_ms: int, results: int, dead: int) -> Report:
    return report(
        time_ms,
        pipeline=name,
        model=Model("sentiment", "abc123abc123abc123"),
        results=results,
        dead_letters={"infer.exception": dead} if dead else {},
        cached=results // 9,
        tokens=12 * results,
        latency_ms=_LATENCY,
    )


def _standing(name: str, reason: Reason) -> Standing:
    return Standing(
        (f"{name}.in", 7),
        10_000,
        reason,
        "a producer has opened a transaction there and not ended it (its first record is 1,900 s old)",
        f"end that producer; if it is gone, run kafka-transactions abort --topic {name}.in --partition 7",
    )


@contextmanager
def made_console(pipelines: int, port: int, prometheus_url: str = "") -> Iterator[MadeFeed]:
    """Serve it on this port of this machine."""
    feed = MadeFeed(pipelines)
    looks = Looks(feed.config, show_text=False)
    desk = Desk(feed.config, looks, History(feed.config.kafka))
    console = Console(
        feed.config,
        Access(),
        Front("127.0.0.1"),
        feed,
        looks,
        desk,
        stopping=lambda: server.should_exit,
        prometheus_url=prometheus_url,
    )
    settings = uvicorn.Config(make_app(console), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the console did not start"
            time.sleep(0.02)
        yield feed
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    with made_console(int(sys.argv[1]), int(sys.argv[2])):
        while True:
            time.sleep(1)
