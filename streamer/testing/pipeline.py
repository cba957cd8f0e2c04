"""One's own model in the real pipeline, without a broker: real batching, triage, dead letters and cache in memory."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, SupportsIndex, TypeVar, overload

from streamer.app.adhoc import CLOSE_S, Plan, plan_for, without_servers
from streamer.app.brokerless import brokerless, make_inbox
from streamer.app.events import EPOCH, record_of, taken
from streamer.app.outcomes import DeadLetter, Outcome, OutcomeSink, Result, Skipped, ended
from streamer.app.parts import NO_LIMITS
from streamer.app.workers import worker_plan
from streamer.core.pipeline.protocol import Assigned, EndReached, Finish
from streamer.core.record import MemoryRecord, TopicPartition
from streamer.errors import ExitCode, UsageError
from streamer.inference.worker.in_process import InProcessWorkers
from streamer.ports import Post, SoleSource

# What a broker takes unless its topic says otherwise. A dead letter is always kept whole here.
MESSAGE_BYTES = 1_048_588

_SHOWN = 20
_Kind = TypeVar("_Kind")


class Outcomes:
    """What became of the events of one run. Iterating gives all outcomes in the order of the events."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._all = list(outcomes)
        self.results = _Listed([one for one in self._all if isinstance(one, Result)], self)
        self.dead_letters = _Listed([one for one in self._all if isinstance(one, DeadLetter)], self)
        self.skipped = _Listed([one for one in self._all if isinstance(one, Skipped)], self)

    @property
    def by_id(self) -> dict[str, Result | DeadLetter]:
        """Results and dead letters by the event's id, or by topic, partition and offset where it has none. Of several
        with one id, the last."""
        return {one.id: one for one in self._all if not isinstance(one, Skipped)}

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        counts = f"results: {len(self.results)}, dead letters: {len(self.dead_letters)}, skipped: {len(self.skipped)}"
        lines = [f"  {one!r}" for one in islice(self._all, _SHOWN)]
        more = [f"  … {len(self._all) - _SHOWN} more"] if len(self._all) > _SHOWN else []
        return "\n".join([f"Outcomes({counts})", *lines, *more])


class _Listed(list[_Kind]):
    """A list that says what became of the events where it lacks the one that is asked for."""

    def __init__(self, found: list[_Kind], outcomes: Outcomes) -> None:
        super().__init__(found)
        self._outcomes = outcomes

    @overload
    def __getitem__(self, index: SupportsIndex) -> _Kind: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Kind]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> _Kind | list[_Kind]:
        try:
            return super().__getitem__(index)
        except IndexError:
            raise IndexError(f"there is no {index} of {len(self)}: {self._outcomes!r}") from None


class LoadedPipeline:
    """A model in a pipeline, for as many runs as you like: it is loaded at the first and kept. Runs are independent of
    one another but for what the model itself remembers; one thread at a time runs, others wait."""

    def __init__(
        self,
        config_or_model: object,
        *,
        task: str | None = None,
        options: Mapping[str, Any] | None = None,
        pipeline: str | None = None,
        workers: Literal["here", "processes"] = "here",
        **fields: Any,
    ) -> None:
        """See `run_pipeline`. Raises UsageError and ConfigurationError; the model is looked for later."""
        plan = plan_for(config_or_model, task=task, options=options, pipeline=pipeline, fields=fields)
        self._plan = dataclasses.replace(plan, config=without_servers(plan.config))
        self._workers = worker_plan(self._plan.pipeline, plan.name)
        if workers not in ("here", "processes"):
            raise UsageError(f'workers={workers!r}: it must be "here" or "processes"')
        if workers == "processes" and plan.given is not None:
            raise UsageError(
                "a class or an instance can't be handed to worker processes: give its reference, python:MODULE:CLASS, "
                "which they find in the working directory or on PYTHONPATH"
            )
        self._here = InProcessWorkers(self._workers[1], plan.given) if workers == "here" else None
        self._lock = threading.Lock()
        self._loaded = False

    def run(self, events: Iterable[Any]) -> Outcomes:
        """Put these events through. Raises as `run_pipeline` does."""
        plan = self._plan
        topic = plan.pipeline.input[0]
        records = [record_of(event, topic, offset) for offset, event in enumerate(events)]
        found: list[Outcome] = []
        with self._lock:
            finish = self._drive(plan, records, found)
            cause = self._here.error if self._here is not None else None
        if finish.exit_code is not ExitCode.DONE:
            raise ended(finish, loaded=self._loaded) from cause
        return Outcomes(found)

    def _drive(self, plan: Plan, records: list[MemoryRecord], found: list[Outcome]) -> Finish:
        if not self._loaded:
            plan.find_model()
        here, inbox = self._here, make_inbox(self._here)
        source = ListSource(records, (plan.pipeline.input[0], 0), inbox.put)
        encoder = plan.encoder(dataclasses.replace(NO_LIMITS, result_bytes=MESSAGE_BYTES))
        sink = OutcomeSink(encoder, inbox.put, found.extend, here.causes if here else None)
        driver = brokerless(
            plan.config, plan.name, plan.codec, self._workers, inbox, source, sink, here=here, close_s=CLOSE_S
        )
        finish = driver.run_to_end()
        self._loaded = driver.pipeline.card is not None
        return finish


def run_pipeline(
    config_or_model: object,
    events: Iterable[Any],
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    pipeline: str | None = None,
    workers: Literal["here", "processes"] = "here",
    **fields: Any,
) -> Outcomes:
    """Put events through a pipeline with its real model, and return what became of each.

    `config_or_model` is a model reference (`python:my_models:Shout`, a directory, `package:NAME/SUBDIR` …), a class or
    an instance of yours, the path of a streamer.toml or a `Config`; of the last two `pipeline` names the one that is
    meant, unless there is only one. `task` and `options` are the model's; a `python:` class needs no task. `fields` are
    other fields of a pipeline, e.g. `on_overflow="reject"`.

    An event is a text, a dict with a `text`, the bytes of a record, or a `RawEvent` with headers and key.

    The model runs in this process, on the thread that calls, where breakpoints work. `workers="processes"` runs it in
    worker processes as `streamer run` does, so that a crash or a hang becomes a dead letter too. No server is asked for
    anything, a cache that the configuration names neither.

    Raises ModelError where the model can't be loaded, with the words that `streamer run` has for it; HaltedError where
    the pipeline stops, since most of the events fail; UsageError and ConfigurationError for wrong arguments.
    """
    loaded = LoadedPipeline(config_or_model, task=task, options=options, pipeline=pipeline, workers=workers, **fields)
    return loaded.run(events)


class ListSource(SoleSource):
    """`streamer.ports.Source` over records that are there, without a thread: what may be taken is taken at once."""

    def __init__(self, records: list[MemoryRecord], partition: TopicPartition, post: Post) -> None:
        self._records = records
        self._partition = partition
        self._post = post
        self._started = False
        self._batches = 0
        self._at = 0
        self._granted = 0
        self._ended = False

    def start(self) -> None:
        """Begin."""
        self._started = True
        self._post(Assigned({self._partition: EPOCH}))
        self._take()

    def grant(self, records: int, size_bytes: int) -> None:
        """Take as many; all are in memory already, so that bytes need no bound."""
        self._granted = records
        self._take()

    def close(self, timeout_s: float) -> None:
        """There is nothing to end."""

    def _take(self) -> None:
        if not self._started:
            return
        records = self._records[self._at : self._granted]
        if records:
            self._at += len(records)
            self._batches += 1
            self._post(taken(records, self._partition, self._batches))
        if self._at == len(self._records) and not self._ended:
            self._ended = True
            self._post(EndReached())
