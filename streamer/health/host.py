"""Runs the app: reads what was known, starts Faust, and starts it again where that failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from streamer.config.load import Config
from streamer.core.health.keeper import Keeper
from streamer.errors import StreamerError
from streamer.health.alarms import Alarms
from streamer.health.app import HealthApp, Message, Page, Work, check_port, make_app
from streamer.health.drift import Drift
from streamer.health.feedback.grades import Grades
from streamer.health.feedback.labels import Labels
from streamer.health.feedback.memories import Memories
from streamer.health.known import known
from streamer.health.pages import json_page, states_page, windows_page
from streamer.health.reading import Reading
from streamer.health.saying import Saying
from streamer.health.silence import Silence
from streamer.health.watched import Watched
from streamer.kafka.health_topics import make_topics
from streamer.telemetry.health_metrics import HealthMetrics
from streamer.telemetry.logs import lost_lines
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer

log = logging.getLogger(__name__)

CLIENT: Final = "streamer-health"
ASK_EVERY_S: Final = 30.0
AGAIN_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before Faust is started again after it failed."""
STOP_S: Final = 10.0
FORGET_S: Final = 600.0
"""A session of that length was a good one: the next failure is a first one."""


class Host:
    """One health app. `tracer` sends spans of what it evaluated."""

    def __init__(self, config: Config, tracer: ToolTracer = NO_SPANS) -> None:
        health = config.health
        self._config = config
        self._reports, self._topic = config.telemetry.reports, health.topic
        self._keeper = Keeper(self._reports)
        self._metrics = HealthMetrics()
        self._log_lost = 0
        self._silence, self._watched = Silence(config), Watched(config)
        self._gone: dict[str, str] = {}
        self._drift = Drift(config, self._metrics)
        self._labels = Labels(config, self._metrics)
        self._grades = Grades(self._labels, self._metrics)
        self._memories = Memories(self._labels)
        self._alarms = Alarms(health, self._labels, self._drift, self._metrics)
        self._saying = Saying(
            config,
            self._keeper,
            self._drift,
            self._labels,
            self._grades,
            self._memories,
            self._alarms,
            self._metrics,
            tracer,
        )
        self._reading = Reading(config, self._keeper, self._labels)
        self._rebuild = False
        self._asking: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._ask_at = 0.0

    def prepare(self) -> None:
        """Make the topics and read what was known. Blocks. Raises StreamerError."""
        check_port(self._config.health.http)
        own = {self._topic: {"cleanup.policy": "compact"}}
        if self._config.health.feedback:
            feedback = self._config.health.feedback
            own |= {topic: {"cleanup.policy": "delete"} for topic in (feedback, f"{feedback}.dlq")}
        for topic in make_topics(self._config.kafka, self._reports, own):
            log.info("created a topic", extra={"data": {"topic": topic}})
        found = known(self._drift, self._reports, self._config.health.feedback, _now_ms())
        if (snapshot := found.snapshot) is not None:
            if not self._keeper.restore(snapshot):
                self._metrics.failure("snapshot")
                log.warning("the snapshot can't be read; reading all reports instead")
            if snapshot.drift and not self._drift.drifts.restore(snapshot.drift):
                self._metrics.failure("snapshot")
                log.warning("the monitors' state can't be read; the last two hours are judged again")
            self._labels.written = {int(partition): offset for partition, offset in snapshot.feedback.items()}
        if not self._memories.restore(found.feedback, found.parts, _now_ms()) and found.feedback is not None:
            self._metrics.failure("snapshot")
            log.warning("the state of feedback can't be read; reading all feedback again")
        self._alarms.restore(found.states)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; what fails meanwhile is started again."""
        failures = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self._session(stop)
                failures = 0
            except StreamerError as error:
                failures = failures + 1 if time.monotonic() - began < FORGET_S else 1
                pause_s = AGAIN_S[min(failures, len(AGAIN_S)) - 1]
                words = f"the app starts again in {pause_s:g} s: {error}"
                log.warning("starting again", extra={"data": {"pause_s": pause_s}, "words": words})
                await _wait(stop, pause_s)
        await self._written()
        await self._saying.say(final=True)
        self._saying.close()
        self._drift.close()
        self._alarms.close()

    async def _written(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            await self._writing

    async def _session(self, stop: asyncio.Event) -> None:
        """One life of a Faust app, until `stop`, its failure, or a change of the topics."""
        await self._written()  # it says up to where the topics were read, which may now be others
        self._reading = Reading(self._config, self._keeper, self._labels)
        starts = await asyncio.to_thread(self._reading.begin)
        self._saying.caught_up = self._rebuild = False
        self._metrics.caught_up(False)
        host, _, port = self._config.health.http.rpartition(":")
        listen = (host.strip("[]"), int(port)) if host else None
        looking_up: asyncio.Task[None] | None = None
        app = make_app(self._config.kafka, CLIENT, starts, listen, self._work(lambda: app))
        try:
            await app.start()
            pages = f"; pages are at http://{self._config.health.http}/states" if listen else ""
            words = f"watching all pipelines that report to {self._reports}{pages}"
            log.info("watching", extra={"data": {"topics": self._reading.topics}, "words": words})
            if self._labels.topic:
                looking_up = asyncio.create_task(self._labels.look_up())
            while not (stop.is_set() or self._rebuild or app.should_stop):
                await _wait(stop, 0.2)
            if app.crashed:
                raise StreamerError(f"Faust ended with {type(app.crash_reason).__name__}")
        except StreamerError:
            raise
        except Exception as error:  # Faust hands on whatever its client raises
            raise StreamerError(f"Faust did not start: {type(error).__name__}") from None
        finally:
            if looking_up is not None:
                looking_up.cancel()
            await _stopped(app)

    def _work(self, app: Callable[[], HealthApp]) -> Work:
        takers = {self._reports: self._guarded("report", self._take_report)}
        if self._labels.topic:
            takers[self._labels.topic] = self._guarded("feedback", self._take_feedback)
        return Work(
            takers=takers,
            tick=lambda late_s: self._tick(app(), late_s),
            pages={
                "/healthz": lambda _: self._health_page(),
                "/readyz": lambda _: self._health_page(self._gone.values()),
                "/windows": lambda query: windows_page(self._keeper, query),
                "/states": lambda query: states_page(self._alarms.standing, query),
                "/drift": lambda query: self._drift.page(self._keeper.fold, query),
                "/feedback": lambda _: self._grades.feedback_page(self._keeper.fold, _now_ms()),
                "/quality": lambda query: self._grades.quality_page(self._keeper.fold, _now_ms(), query),
                "/metrics": lambda _: Page(*self._metrics.page()),
            },
        )

    def _guarded(self, what: str, take: Callable[[Message], Awaitable[None]]) -> Callable[[Message], Awaitable[None]]:
        """An error of one record must not end the agent: it is counted, and the next one is taken."""

        async def guarded(message: Message) -> None:
            try:
                await take(message)
            except Exception as error:
                self._metrics.failure(what)
                data = {"error": type(error).__name__, "partition": message.partition, "offset": message.offset}
                log.error(f"a {what} could not be processed", extra={"data": data})

        return guarded

    async def _take_feedback(self, message: Message) -> None:
        self._reading.taken[self._labels.topic] += 1
        self._labels.take(message)

    async def _take_report(self, message: Message) -> None:
        self._reading.taken[self._reports] += 1
        self._saying.unsaved = True
        self._metrics.report(self._keeper.take(message.partition, message.offset, message.value).value)

    async def _tick(self, app: HealthApp, late_s: float) -> None:
        self._metrics.loop_delay(late_s)
        lost = lost_lines()
        self._metrics.failure("log", lost - self._log_lost)
        self._log_lost = lost
        if self._labels.topic:
            app.hold(self._labels.topic, self._labels.is_full)
        if not self._saying.caught_up:
            self._saying.caught_up = self._reading.caught_up(app)
            if not self._saying.caught_up:
                return
            self._metrics.caught_up(True)
            log.info("all reports are summed", extra={"data": {"records": self._reading.taken[self._reports]}})
        if time.monotonic() >= self._ask_at and (self._asking is None or self._asking.done()):
            self._ask_at = time.monotonic() + ASK_EVERY_S
            self._asking = asyncio.create_task(self._ask())
        if self._writing is None or self._writing.done():
            # Not in Faust's own task: what is being written when that is cancelled would count as written.
            self._writing = asyncio.create_task(self._saying.say())

    async def _ask(self) -> None:
        """Ask the brokers what the stream can't tell: who is silent, and whether the topics are as they were."""
        try:
            gone = await asyncio.to_thread(self._watched.look)
            for topic, told in gone.items():
                if topic not in self._gone:
                    log.error("a topic is gone", extra={"data": {"topic": topic, "error": told}, "words": told})
            self._gone = gone
            self._alarms.silent_s = await asyncio.to_thread(self._silence.look, dict(self._keeper.newest_ms))
            changed = gone.keys().isdisjoint(self._reading.topics) and await asyncio.to_thread(self._reading.changed)
        except Exception as error:
            self._alarms.silent_s = {}
            self._metrics.failure("look_up")
            why = str(error) if isinstance(error, StreamerError) else type(error).__name__
            log.warning("the brokers could not be asked", extra={"data": {"error": why}})
            return
        if changed:
            log.warning(
                "a topic has changed: all of it is read again", extra={"data": {"topics": self._reading.topics}}
            )
            self._rebuild = True

    def _health_page(self, others: Iterable[str] = ()) -> Page:
        reasons = [] if self._saying.caught_up else ["reports from before the start are still being summed"]
        reasons += others
        return json_page({"ok": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _stopped(app: HealthApp) -> None:
    try:
        await asyncio.wait_for(app.stop(), STOP_S)
    except Exception as error:
        log.warning("Faust does not stop cleanly", extra={"data": {"error": type(error).__name__}})


async def _wait(stop: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), timeout_s)
    except TimeoutError:
        return
