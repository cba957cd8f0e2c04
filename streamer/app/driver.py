"""The driver: one inbox, one loop. It gathers facts, asks the core, executes its commands, and leaves in order.

Everything that can block runs on an adapter's own thread; the loop only hands over. The order of leaving: the source
(so that the group knows), the sink, the workers, the cache, and telemetry last, since the others still report.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from streamer.core.events.framed import SchemaName
from streamer.core.pipeline.pipeline import Phase, Pipeline
from streamer.core.pipeline.protocol import (
    Command,
    Dispatch,
    Finish,
    Grant,
    Input,
    Join,
    KillWorker,
    LearnSchemas,
    LookAtOutput,
    LookUp,
    MicroBatchDone,
    ModelCard,
    PauseReading,
    Release,
    Rewind,
    Settle,
    Settled,
    StartWorker,
    Stop,
    Store,
    Tick,
    Unsettled,
)
from streamer.core.record import MicroBatch, TopicPartition
from streamer.errors import ExitCode
from streamer.ports import Cache, Sink, Source, Workers

TICK_S = 0.05
CLOSE_S = 5.0
LEASE_SLACK_S = 10.0

log = logging.getLogger(__name__)


class Observer:
    """Who watches: spans, metrics, progress. Called from the loop, so it must be quick; it never raises."""

    def micro_batch_done(self, batch: MicroBatch) -> None:
        """All of a micro-batch is durable or dropped."""

    def facts(self, fact: Input) -> None:
        """The core has taken this in."""

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Time has passed."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """The world as the driver sees it."""

    source: Source
    sink: Sink
    workers: Workers
    cache: Cache
    observers: tuple[Observer, ...] = ()
    learn: Callable[[list[SchemaName]], object] = lambda _: None
    """Learns schemas, for a codec that needs any."""
    pause: Callable[[frozenset[TopicPartition]], object] = lambda _: None
    """Keeps the source from reading partitions whose records wait for schemas."""


class Driver:
    """Runs one pipeline until it is done."""

    def __init__(
        self,
        pipeline: Pipeline,
        inbox: SimpleQueue[Input],
        adapters: Adapters,
        clock: Callable[[], float] = time.monotonic,
        close_s: float = CLOSE_S,
    ) -> None:
        """Each adapter has `close_s` to close."""
        self.pipeline = pipeline
        self._inbox = inbox
        self._adapters = adapters
        self._clock = clock
        self._close_s = close_s
        self._ticked = clock()
        self._finish: Finish | None = None
        self._stopping = False
        self.last_words = ""
        """Why it ended, where that needs words."""

    def run(self) -> ExitCode:
        """Run to the end and log how it ended; returns the exit code. Whatever happens, all adapters are closed."""
        finish = self.run_to_end()
        if finish.message:
            level = logging.INFO if finish.exit_code is ExitCode.DONE else logging.ERROR
            log.log(level, finish.message, extra={"data": {"exit_code": int(finish.exit_code)}})
        return finish.exit_code

    def run_to_end(self) -> Finish:
        """The same for a caller who says in words of its own how it ended."""
        try:
            goes_on = self.step(Tick(), self._clock())
            while goes_on:
                fact = self._next()
                self._adapters.sink.wait_turn(TICK_S)
                goes_on = self.step(fact, self._clock())
        finally:
            finish = self.close()
            self._hear_of_the_last()
        self.last_words = finish.message
        return finish

    def stop(self, within_s: float) -> None:
        """Ask for a graceful stop; safe from any thread and from a signal handler."""
        self._stopping = True
        self._inbox.put(Stop(self._clock() + within_s))

    def standing(self, limit_s: float) -> list[str]:
        """Which of our own loops stand still (for /livez); empty when all move."""
        now = self._clock()
        reasons = []
        if now - self._ticked > limit_s:
            reasons.append(f"the core has not ticked for {now - self._ticked:.0f} s")
        if self.pipeline.fleet.overdue(now, LEASE_SLACK_S):
            reasons.append("a worker is past its lease and not killed")
        return reasons

    def step(self, fact: Input, now: float) -> bool:
        """Take one fact in and do what follows; returns whether the pipeline goes on. The first fact is a `Tick`."""
        self._execute(self.pipeline.handle(fact, now))
        for observer in self._adapters.observers:
            observer.facts(fact)
        if now - self._ticked >= TICK_S or isinstance(fact, Tick):
            if not isinstance(fact, Tick):
                self._execute(self.pipeline.handle(Tick(), now))
            self._ticked = now
            for observer in self._adapters.observers:
                observer.tick(self.pipeline, now)
        return self._finish is None

    def close(self) -> Finish:
        """Close all adapters; returns how the pipeline ended."""
        finish = self._finish or Finish(ExitCode.BUG)
        self.pipeline.phase = Phase.FINISHED
        adapters = self._adapters
        if finish.exit_code is not ExitCode.BUG and self.pipeline.settling.under_way is None:
            adapters.source.mark_clean_end()
        for close in (adapters.source.close, adapters.sink.close, adapters.workers.close, adapters.cache.close):
            try:
                close(self._close_s)
            except Exception:
                log.exception("an adapter did not close cleanly")
        return finish

    def _hear_of_the_last(self) -> None:
        """Tell the observers what the sink said of the plan that was under way while it closed."""
        while not self._inbox.empty():
            fact = self._inbox.get()
            if isinstance(fact, Settled | Unsettled):
                for observer in self._adapters.observers:
                    observer.facts(fact)

    def _next(self) -> Input:
        try:
            return self._inbox.get(timeout=self._wait_s())
        except Empty:
            return Tick()

    def _wait_s(self) -> float:
        """How long to wait for a fact: until the next tick, or until the next plan may be made."""
        rests_until = self.pipeline.settling.rests_until
        return min(max(rests_until - self._clock(), 0.0), TICK_S) if rests_until else TICK_S

    def _execute(self, commands: list[Command]) -> None:
        adapters = self._adapters
        for command in commands:
            match command:
                case Grant():
                    adapters.source.grant(command.records, command.size_bytes)
                case Dispatch():
                    adapters.workers.send(command.worker, command.work)
                case Settle():
                    adapters.sink.settle(command)
                case LookUp():
                    adapters.cache.look_up(command.lookup, command.keys)
                case Store():
                    adapters.cache.store(command.entries)
                case LearnSchemas():
                    adapters.learn(command.names)
                case PauseReading():
                    adapters.pause(command.partitions)
                case MicroBatchDone():
                    adapters.source.done(command.batch)
                    for observer in adapters.observers:
                        observer.micro_batch_done(command.batch)
                case Release():
                    adapters.source.release(command.epoch)
                case Rewind():
                    adapters.source.rewind(command.partitions)
                case StartWorker():
                    adapters.workers.start(command.worker)
                case KillWorker():
                    log.warning("a worker %s and is killed", command.why, extra={"data": {"worker": command.worker}})
                    adapters.workers.kill(command.worker)
                case LookAtOutput():
                    adapters.sink.look()
                case Join():
                    if self.pipeline.policy.shared_cache and command.model.cacheable and not command.model.shared:
                        log.warning(
                            "answers of %s are not shared through Redis, because it is not known which files its"
                            " class reads. List them in its attribute `files` ([] for none) to share them",
                            command.model.name,
                        )
                    if self._open_sink(command.model):
                        adapters.source.start()
                    else:
                        self._finish = Finish(ExitCode.DONE, "stopped before Kafka was ready for writing")
                case Finish():
                    self._finish = command

    def _open_sink(self, model: ModelCard) -> bool:
        """Wait until results can be written, for which brokers may take long; False when a stop comes before."""
        opened: Future[None] = Future()

        def open_it() -> None:
            try:
                self._adapters.sink.open(model)
                opened.set_result(None)
            except BaseException as error:
                opened.set_exception(error)

        threading.Thread(target=open_it, name="sink-open", daemon=True).start()
        while not opened.done():
            self._ticked = now = self._clock()  # it is not the core that stands
            for observer in self._adapters.observers:
                observer.tick(self.pipeline, now)
            if not wait([opened], TICK_S).done and self._stopping:
                return False
        opened.result()
        return True
