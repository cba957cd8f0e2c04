"""A worker pool with the inputs that it posts, for tests to wait on."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any, TypeVar

from streamer.core.pipeline.protocol import ForwardDone, ForwardStarted, Input, Work, WorkerLost, WorkerReady
from streamer.core.record import Answer
from streamer.errors import DataFailure
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import WorkerSpec

_Input = TypeVar("_Input")
LOAD_S = 120.0


class Workers:
    """Starts `count` workers and keeps all that they post. A context manager: closes them at the end."""

    def __init__(self, spec: WorkerSpec, count: int = 1, *, ready: bool = True, early: bool = False) -> None:
        self.inbox: queue.SimpleQueue[Input] = queue.SimpleQueue()
        self.seen: list[Input] = []
        self.pool = WorkerPool(spec, count, self.inbox.put)
        if early:
            self.pool.start_early()
        else:
            for worker in range(count):
                self.pool.start(worker)
        self.cards = [self.wait_for(WorkerReady).model for _ in range(count)] if ready else []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close(2.0)

    def wait_for(
        self, kind: type[_Input], where: Callable[[_Input], bool] = lambda _: True, timeout_s: float = LOAD_S
    ) -> _Input:
        """The next input of this kind; what comes before it is kept in `seen`. Fails when the worker is lost."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                message = self.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind.__name__} within {timeout_s} s; seen: {self.seen[-5:]}") from None
            self.seen.append(message)
            if isinstance(message, kind) and where(message):
                return message
            if isinstance(message, WorkerLost):
                raise AssertionError(f"waited for {kind.__name__}, got {message}")

    def run(
        self,
        texts: list[str],
        pairs: list[str | None] | None = None,
        params: list[dict[str, Any] | None] | None = None,
        *,
        alone: bool = False,
        worker: int = 0,
    ) -> list[Answer | DataFailure]:
        """Send one work and wait for all its outcomes, in the order of the texts."""
        self.pool.send(worker, Work(list(range(len(texts))), texts, pairs, params, alone))
        outcomes: dict[int, Answer | DataFailure] = {}
        while len(outcomes) < len(texts):
            done = self.wait_for(ForwardDone)
            outcomes.update(zip(done.numbers, done.outcomes, strict=True))
        return [outcomes[number] for number in range(len(texts))]

    def announced(self) -> list[list[int]]:
        """The numbers of every forward batch so far."""
        return [message.numbers for message in self.seen if isinstance(message, ForwardStarted)]
