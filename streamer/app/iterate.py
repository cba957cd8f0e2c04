"""`streamer.infer`: the pipeline as an iterator over another one, with the worker processes of `streamer run`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any, Literal, overload

import msgspec

from streamer.app.adhoc import CLOSE_S, Plan, plan_for
from streamer.app.brokerless import brokerless, make_inbox
from streamer.app.events import EPOCH, RawEvent, record_of, taken
from streamer.app.outcomes import DeadLetter, DeadLetterError, Outcome, OutcomeSink, Result, ended
from streamer.app.parts import NO_LIMITS
from streamer.app.workers import worker_plan
from streamer.core.pipeline.flow import OPEN_PER_WORKER
from streamer.core.pipeline.protocol import Assigned, EndReached, Finish
from streamer.core.record import MemoryRecord, TopicPartition
from streamer.errors import ExitCode, UsageError
from streamer.inference.worker.in_process import InProcessWorkers
from streamer.ports import Post, SoleSource

READ_AHEAD = 2 * OPEN_PER_WORKER
"""Events of each worker that are read and whose outcomes the caller has not taken yet, at most."""
READ_AHEAD_BYTES = 64 << 20
LEFT_BEHIND_S = 10.0
MAX_WORKERS = 256

Event = str | bytes | dict[str, Any] | RawEvent


@overload
def infer(
    texts_or_events: Iterable[Event],
    *,
    model: object,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    pipeline: str | None = None,
    workers: int = 0,
    on_error: Literal["raise"] = "raise",
    **fields: Any,
) -> Iterator[Result]: ...


@overload
def infer(
    texts_or_events: Iterable[Event],
    *,
    model: object,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    pipeline: str | None = None,
    workers: int = 0,
    on_error: Literal["yield"],
    **fields: Any,
) -> Iterator[Result | DeadLetter]: ...


def infer(
    texts_or_events: Iterable[Event],
    *,
    model: object,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    pipeline: str | None = None,
    workers: int = 0,
    on_error: Literal["raise", "yield"] = "raise",
    **fields: Any,
) -> Iterator[Result | DeadLetter]:
    """Ask the model about each text; one outcome comes for each, in order.

    `texts_or_events` may be of any length, or endless: it is read by a thread of its own, at most READ_AHEAD events a
    worker before those that the caller has taken. An event is a text, a dict with a `text`, a record's bytes, or a
    `RawEvent` with headers.

    `model` is a model reference (a directory, `package:NAME/SUBDIR`, `python:MODULE:CLASS` …), or the path of a
    streamer.toml or a `Config`, where `pipeline` names the one that is meant. `workers` processes (0: as `streamer run`
    chooses) start at the first `next()` and end with the iterator: at its end, when it is closed, dropped or
    interrupted. A class or an instance of yours runs in this process instead. `fields` are other fields of a pipeline,
    e.g. `dtype="float32"` or `on_overflow="reject"`.

    What has no answer raises DeadLetterError, with its code and message, or comes as a `DeadLetter` with
    `on_error="yield"`. Raises UsageError and ConfigurationError for wrong arguments at once; from `next()` ModelError
    where the model can't be loaded, HaltedError where it fails for most events, and what the iterable raises, after the
    outcomes of what it gave before.
    """
    if on_error not in ("raise", "yield"):
        raise UsageError(f'on_error={on_error!r}: it must be "raise" or "yield"')
    if isinstance(texts_or_events, str | bytes | dict):
        raise UsageError("one text alone goes into a list: infer([text], …)")
    if not 0 <= workers <= MAX_WORKERS:
        raise UsageError(f"workers={workers}: it must be 0 to {MAX_WORKERS}")
    plan = plan_for(model, task=task, options=options, pipeline=pipeline, fields=fields)
    return _outcomes(iter(texts_or_events), plan, workers, raises=on_error == "raise")


def _outcomes(events: Iterator[object], plan: Plan, workers: int, *, raises: bool) -> Iterator[Result | DeadLetter]:
    run = _Run(events, plan, workers)
    try:
        run.start()
        yield from run.outcomes(raises=raises)
    finally:
        run.close()


class _Run:
    """One iteration: a thread drives the pipeline, another one reads the events."""

    def __init__(self, events: Iterator[object], plan: Plan, workers: int) -> None:
        self._news: SimpleQueue[list[Outcome] | Finish | BaseException] = SimpleQueue()
        plan.find_model()
        pipeline = msgspec.structs.replace(plan.pipeline, workers=workers or plan.pipeline.workers)
        count, spec = worker_plan(pipeline, plan.name)
        here = self._here = None if plan.given is None else InProcessWorkers(spec, plan.given)
        inbox = make_inbox(here)
        read_ahead = READ_AHEAD * (count if here is None else 1)
        self._source = IterableSource(events, (plan.pipeline.input[0], 0), inbox.put, read_ahead)
        sink = OutcomeSink(plan.encoder(NO_LIMITS), inbox.put, self._news.put, here.causes if here else None)
        self._driver = brokerless(
            plan.config, plan.name, plan.codec, (count, spec), inbox, self._source, sink, here=here, close_s=CLOSE_S
        )
        self._thread = threading.Thread(target=self._drive, name="streamer-infer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def outcomes(self, *, raises: bool) -> Iterator[Result | DeadLetter]:
        """Until the end. Raises as `infer` does."""
        while isinstance(news := self._news.get(), list):
            for outcome in news:
                self._source.passed_on()
                if isinstance(outcome, DeadLetter) and raises:
                    raise DeadLetterError(outcome)
                if isinstance(outcome, Result | DeadLetter):
                    yield outcome
        if isinstance(news, BaseException):
            raise news
        if news.exit_code is not ExitCode.DONE:
            cause = None if self._here is None else self._here.error
            raise ended(news, loaded=self._driver.pipeline.card is not None) from cause
        if self._source.error is not None:
            raise self._source.error

    def close(self) -> None:
        """End the workers. A model that runs in this process and does not come back is left behind."""
        self._driver.stop(0.0)
        if self._thread.ident is not None:
            self._thread.join(LEFT_BEHIND_S)

    def _drive(self) -> None:
        try:
            self._news.put(self._driver.run_to_end())
        except BaseException as error:
            self._news.put(error)


class IterableSource(SoleSource):
    """`streamer.ports.Source` over an iterator: one thread reads it, another one hands over what has come meanwhile, so
    that an iterator that is slow holds nothing back.

    No more than `read_ahead` events are read before those that were `passed_on`. `error` is what the iterator raised.
    """

    def __init__(self, events: Iterator[object], partition: TopicPartition, post: Post, read_ahead: int) -> None:
        self.error: BaseException | None = None
        self._events = events
        self._partition = partition
        self._post = post
        self._read_ahead = read_ahead
        self._changed = threading.Condition()
        self._waiting: deque[MemoryRecord] = deque()
        self._sizes: deque[int] = deque()  # of what is read and not passed on
        self._bytes = 0
        self._granted = 0
        self._ended = False
        self._closing = False

    def start(self) -> None:
        """Begin to read."""
        self._post(Assigned({self._partition: EPOCH}))
        for name, run in (("streamer-events", self._read), ("streamer-taken", self._hand_over)):
            threading.Thread(target=run, name=name, daemon=True).start()

    def grant(self, records: int, size_bytes: int) -> None:
        """Allow to have handed over so many in all; bytes have a bound of their own."""
        with self._changed:
            self._granted = records
            self._changed.notify_all()

    def passed_on(self) -> None:
        """The caller has the next outcome."""
        with self._changed:
            self._bytes -= self._sizes.popleft()
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Read no more; an iterator that blocks is left to itself."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _room(self) -> bool:
        """Wait until another event may be read; False when none shall be."""
        with self._changed:
            while not self._closing and (len(self._sizes) >= self._read_ahead or self._bytes >= READ_AHEAD_BYTES):
                self._changed.wait()
            return not self._closing

    def _read(self) -> None:
        topic, _ = self._partition
        offset = 0
        try:
            while self._room():
                record = record_of(next(self._events), topic, offset)
                offset += 1
                with self._changed:
                    self._waiting.append(record)
                    self._sizes.append(len(record))
                    self._bytes += len(record)
                    self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as error:
            self.error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _hand_over(self) -> None:
        handed_over = batches = 0
        while True:
            with self._changed:
                while not self._closing and not (
                    (self._waiting and handed_over < self._granted) or (self._ended and not self._waiting)
                ):
                    self._changed.wait()
                if self._closing:
                    return
                most = min(len(self._waiting), self._granted - handed_over)
                records = [self._waiting.popleft() for _ in range(most)]
            if not records:
                self._post(EndReached())
                return
            handed_over += len(records)
            batches += 1
            self._post(taken(records, self._partition, batches))
