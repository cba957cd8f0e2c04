"""Runs the app: reads what was known, starts Faust, says what is new, and starts Faust again where that failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from streamer.config.load import Config
from streamer.core.health.keeper import Keeper
from streamer.core.health.rules import rules_of
from streamer.core.health.words import MAX_SNAPSHOT_BYTES, StateWord, WindowKey, Word, encode
from streamer.errors import StreamerError
from streamer.health.app import HealthApp, Message, Page, Work, check_port, make_app
from streamer.health.drift import Change, Drift
from streamer.health.grades import Grades
from streamer.health.known import known
from streamer.health.labels import Labels
from streamer.health.pages import json_page, states_page, windows_page
from streamer.health.publisher import Publisher, Said
from streamer.health.rated import Rated
from streamer.health.reading import Reading
from streamer.health.silence import Silence
from streamer.health.watch import Watch
from streamer.health.webhook import Webhook
from streamer.kafka.health_topics import make_topics
from streamer.telemetry.health_metrics import HealthMetrics

log = logging.getLogger(__name__)

CLIENT: Final = "streamer-health"
SNAPSHOT_EVERY_S: Final = 60.0
LOOK_EVERY_S: Final = 5.0
ASK_EVERY_S: Final = 30.0
AGAIN_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before Faust is started again after it failed."""
STOP_S: Final = 10.0
FORGET_S: Final = 600.0
"""A session of that length was a good one: the next failure is a first one."""


class Host:
    """One health app."""

    def __init__(self, config: Config) -> None:
        health = config.health
        self._config = config
        self._reports, self._topic = config.telemetry.reports, health.topic
        self._keeper = Keeper(self._reports)
        self._metrics = HealthMetrics()
        self._publisher = Publisher(config.kafka)
        self._silence = Silence(config)
        self._watch = Watch([], {})
        self._drift = Drift(config, self._metrics)
        self._labels = Labels(config, self._metrics)
        self._grades = Grades(self._labels, self._metrics)
        self._rated = Rated(self._labels, self._drift)
        self._webhook = Webhook(health.webhook, lambda: self._metrics.failure("webhook")) if health.webhook else None
        self._silent_s: dict[str, float] = {}
        self._reading = Reading(config, self._keeper, self._labels)
        self._caught_up = self._rebuild = False
        self._asking: asyncio.Task[None] | None = None
        self._saying: asyncio.Task[None] | None = None
        self._snapshot_at = self._look_at = self._ask_at = 0.0
        self._unsaved = False

    def prepare(self) -> None:
        """Make the topics and read what was known. Blocks. Raises StreamerError."""
        check_port(self._config.health.http)
        own = {self._topic: {"cleanup.policy": "compact"}}
        if self._config.health.feedback:
            feedback = self._config.health.feedback
            own |= {topic: {"cleanup.policy": "delete"} for topic in (feedback, f"{feedback}.dlq")}
        for topic in make_topics(self._config.kafka, self._reports, own):
            log.info("created a topic", extra={"data": {"topic": topic}})
        snapshot, standing, joined = known(self._drift, self._reports, self._config.health.feedback, _now_ms())
        if snapshot is not None and not self._keeper.restore(snapshot):
            self._metrics.failure("snapshot")
            log.warning("the snapshot can't be read, all reports are read instead")
        if snapshot is not None:
            if snapshot.drift and not self._drift.drifts.restore(snapshot.drift):
                self._metrics.failure("snapshot")
                log.warning("what the monitors had seen can't be read, the last two hours are judged again")
            self._labels.written = {int(partition): offset for partition, offset in snapshot.feedback.items()}
        if joined is not None and self._labels.restore(joined[1]):
            self._grades.saved(joined[0])
        changes = [(name, _given(rule)) for name, rule in self._config.health.rules.items()]
        rules = rules_of(changes)
        names = {rule.name for rule in rules}
        self._watch = Watch(rules, {key: word for key, word in standing.items() if word.rule in names})

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
        if self._saying is not None:
            await self._saying
        await self._say(final=True)
        self._publisher.close()
        self._drift.close()
        if self._webhook is not None:
            self._webhook.close()

    async def _session(self, stop: asyncio.Event) -> None:
        """One life of a Faust app, until `stop`, its failure, or a change of the topics."""
        self._reading = Reading(self._config, self._keeper, self._labels)
        starts = await asyncio.to_thread(self._reading.begin)
        self._caught_up = self._rebuild = False
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
                "/windows": lambda query: windows_page(self._keeper, query),
                "/states": lambda query: states_page(self._watch.standing, query),
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
                log.error(f"a {what} could not be taken", extra={"data": data})

        return guarded

    async def _take_feedback(self, message: Message) -> None:
        self._reading.taken[self._labels.topic] += 1
        self._labels.take(message)

    async def _take_report(self, message: Message) -> None:
        self._reading.taken[self._reports] += 1
        self._unsaved = True
        self._metrics.report(self._keeper.take(message.partition, message.offset, message.value).value)

    async def _tick(self, app: HealthApp, late_s: float) -> None:
        self._metrics.loop_delay(late_s)
        if self._labels.topic:
            app.hold(self._labels.topic, self._labels.is_full)
        if not self._caught_up:
            self._caught_up = self._reading.caught_up(app)
            if not self._caught_up:
                return
            self._metrics.caught_up(True)
            log.info("all reports are folded", extra={"data": {"records": self._reading.taken[self._reports]}})
        if time.monotonic() >= self._ask_at and (self._asking is None or self._asking.done()):
            self._ask_at = time.monotonic() + ASK_EVERY_S
            self._asking = asyncio.create_task(self._ask())
        if self._saying is None or self._saying.done():
            # Not in Faust's own task: what is being written when that is cancelled would count as written.
            self._saying = asyncio.create_task(self._say())

    async def _ask(self) -> None:
        """Ask the brokers what the stream can't tell: who is silent, and whether the topic is as it was."""
        try:
            self._silent_s = await asyncio.to_thread(self._silence.look, dict(self._keeper.newest_ms))
            changed = await asyncio.to_thread(self._reading.changed)
        except Exception as error:
            self._silent_s = {}
            self._metrics.failure("look_up")
            log.warning("the brokers could not be asked", extra={"data": {"error": type(error).__name__}})
            return
        if changed:
            log.warning("a topic has changed, reading begins anew", extra={"data": {"topics": self._reading.topics}})
            self._rebuild = True

    async def _say(self, *, final: bool = False) -> None:
        """Write windows that have ended, states, and now and then a snapshot; all as they are at this moment."""
        looks = self._caught_up and time.monotonic() >= self._look_at
        for key, word in await asyncio.to_thread(self._drift.news) if looks and not final else ():
            self._drift.take(key, word, _now_ms())
        looks = looks and self._caught_up
        now_s, now_ms = time.monotonic(), _now_ms()
        keys: list[WindowKey] = self._keeper.due(now_ms) if self._caught_up else []
        windows = self._keeper.words(keys)
        self._drift.closed(windows)
        states: list[StateWord] = []
        moves: list[Change] = []
        if looks:
            self._look_at = now_s + LOOK_EVERY_S
            moves = await self._drift.look(self._keeper, now_ms)
            states = self._look(now_ms)
        grades = self._grades.words(self._keeper.fold, now_s, now_ms, final=final) if self._caught_up else []
        letters, written = self._labels.refused() if self._caught_up else ([], self._labels.written)
        # Of this moment, when all that was refused is among the letters.
        memory = self._grades.memory(now_s, final=final) if self._caught_up else None
        words: list[Word] = [*windows, *states, *grades]
        records = [*letters, *map(self._said, words)]
        records += [Said(self._topic, key.encode(), None if word is None else encode(word)) for key, word in moves]
        snapshots: list[Said] = []
        head = None
        if (self._unsaved or written != self._labels.written) and (final or now_s >= self._snapshot_at):
            self._snapshot_at = now_s + SNAPSHOT_EVERY_S
            self._unsaved = False
            snapshots += filter(None, [self._snapshot(now_ms, written)])
        if memory is not None:
            parts, head = await asyncio.to_thread(self._grades.snapshot, memory, now_s, now_ms)
            records += map(self._said, parts)
            snapshots.append(self._said(head))
        if not records and not snapshots:
            return
        try:
            written_now = await asyncio.to_thread(self._publisher.publish, records, snapshots)
        except Exception as error:
            written_now = False
            log.warning("the producer failed", extra={"data": {"error": type(error).__name__}})
        if written_now:
            self._metrics.windows_written(len(windows))
            self._labels.written = written
            self._drift.written(moves)
            if head is not None:
                self._grades.saved(head)
            return
        self._unsaved = True
        self._keeper.say_again(keys)
        self._watch.say_again(states)
        self._labels.refuse_again(letters)
        self._grades.say_again(grades)
        self._metrics.failure("publish")
        log.warning("nothing can be written now, it is tried again", extra={"data": {"topic": self._topic}})

    def _look(self, now_ms: int) -> list[StateWord]:
        for pipeline, newest_ms in self._keeper.newest_ms.items():
            self._metrics.newest_report(pipeline, newest_ms)
        states, calls = self._watch.look(
            self._keeper,
            self._silent_s,
            self._drift.told,
            now_ms,
            lambda rule, pipeline, firing: self._rated.told(rule, pipeline, now_ms, firing=firing),
        )
        for word in self._watch.standing.values():
            firing = word.state == "firing"
            self._metrics.rule(word.pipeline, word.rule, word.severity, firing=firing, value=word.value)
        for word in calls:
            level = logging.WARNING if word.state == "firing" else logging.INFO
            data = {"pipeline": word.pipeline, "name": word.rule, "state": word.state, "reason": word.what}
            log.log(level, "an alarm", extra={"data": data, "words": f"{word.state}: {word.what}"})
            if self._webhook is not None:
                self._webhook.call(encode(word))
        return states

    def _snapshot(self, now_ms: int, written: Mapping[int, int]) -> Said | None:
        for drift in (self._drift.drifts.snapshot(), b""):  # without it, the last two hours are judged again
            said = self._said(self._keeper.snapshot(now_ms, written, drift))
            if len(said.value or b"") <= MAX_SNAPSHOT_BYTES:
                return said
        self._metrics.failure("snapshot")
        return None

    def _said(self, word: Word) -> Said:
        return Said(self._topic, word.key.encode(), encode(word))

    def _health_page(self) -> Page:
        reasons = [] if self._caught_up else ["reports from before the start are still being folded"]
        return json_page({"ok": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _given(rule: Any) -> Mapping[str, Any]:
    """What a rule of the configuration says."""
    fields = {name: getattr(rule, name) for name in rule.__struct_fields__}
    return {name: value for name, value in fields.items() if value not in (None, "")}


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
