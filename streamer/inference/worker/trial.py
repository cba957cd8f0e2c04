"""Try a model before a start: its files alone, or whole, in a worker as a run starts it."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from streamer.core.pipeline.protocol import ForwardDone, Input, Work, WorkerLost, WorkerReady
from streamer.core.record import Answer
from streamer.core.surroundings import ModelInfo
from streamer.errors import DataFailure, MissingExtraError, ModelError
from streamer.inference.models.adapter import adapted, revision_of
from streamer.inference.models.presence import require_libraries
from streamer.inference.models.reference import Located, resolve
from streamer.inference.models.safety import used_files
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import WorkerSpec

_CLOSE_S = 5.0
_Fact = TypeVar("_Fact")


def look_at_files(spec: WorkerSpec) -> ModelInfo:
    """Whether the model is there and safe to load, and its digest; loads nothing of it."""
    try:
        located = resolve(spec.model)
        if not isinstance(located, Located):
            return ModelInfo(name=spec.model)
        located = adapted(located, spec.model, spec.adapter, spec.task)
        return ModelInfo(name=located.name, revision=revision_of(located, used_files(located.path)))
    except (ModelError, OSError) as error:
        return ModelInfo(failure=str(error))


class Trial:
    """A worker with the model loaded: `card` is what it says of it, `info` what the load took."""

    def __init__(self, pool: WorkerPool, posted: queue.SimpleQueue[Input], timeout_s: float) -> None:
        """Waits for the model. Raises `ModelError`."""
        self._pool, self._posted, self._timeout_s = pool, posted, timeout_s
        began = time.monotonic()
        pool.start(0)
        fact = self._await(WorkerReady, "it was not loaded")
        self.card = fact.model
        took_s, memory = time.monotonic() - began, _resident_bytes(pool.pids.get(0))
        self.info = ModelInfo("", self.card.name, self.card.revision, self.card.device, took_s, memory)

    def ask(self, text: str, pair: str | None = None, params: dict[str, Any] | None = None) -> Answer | DataFailure:
        """The answer to one event. Raises `ModelError` when the worker ends over it."""
        self._pool.send(0, Work([0], [text], [pair] if pair is not None else None, [params] if params else None))
        return self._await(ForwardDone, "it has not answered").outcomes[0]

    def _await(self, kind: type[_Fact], late: str) -> _Fact:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                fact = self._posted.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise ModelError(f"{late} after {self._timeout_s:g} s") from None
            if isinstance(fact, kind):
                return fact
            if isinstance(fact, WorkerLost):
                raise ModelError(fact.message)


@contextmanager
def in_worker(spec: WorkerSpec, timeout_s: float) -> Iterator[Trial]:
    """Load the model in a worker, as a run does. Raises `ModelError`, and `MissingExtraError` before it starts one."""
    require_libraries(spec.model)
    posted: queue.SimpleQueue[Input] = queue.SimpleQueue()
    pool = WorkerPool(spec, 1, posted.put)
    try:
        yield Trial(pool, posted, timeout_s)
    finally:
        pool.close(_CLOSE_S)


def try_in_worker(spec: WorkerSpec, timeout_s: float) -> ModelInfo:
    """Load the model in a worker and run its probe; what the worker takes of memory is measured then."""
    try:
        with in_worker(spec, timeout_s) as trial:
            return trial.info
    except (MissingExtraError, ModelError) as error:
        return ModelInfo(failure=str(error))


def _resident_bytes(pid: int | None) -> int:
    """What a process has in memory; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
