"""A worker that is no process: the model runs where the driver does, on the driver's own thread.

All that a worker process does with a model is done by the same code: loading, the probe, encoding, forward batches,
halving. What only a process can give is missing: a crash takes the caller with it, and what hangs can't be killed.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import threading
from bdb import BdbQuit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from streamer.core.pipeline.protocol import Input, ModelCard, Work, WorkerLost
from streamer.errors import DataFailure, ModelError
from streamer.inference.channel import Compute, Done, Encoding, Holding, Ready, Start, Started
from streamer.inference.generation.generator import Generator, StreamingModel
from streamer.inference.model import Model
from streamer.inference.models.class_identity import ClassIdentity
from streamer.inference.models.custom import CustomModel
from streamer.inference.parent.process import fact_of
from streamer.inference.spec import WorkerSpec
from streamer.inference.worker.encoding import Encoder
from streamer.inference.worker.forwarder import Computation, Forwarder, WorkerFailureError
from streamer.inference.worker.worker import Pool, compute, load_model, make_runner
from streamer.ports import Post

KEPT_CAUSES = 1000
"""A traceback holds all that its frames held: so many are kept until their dead letters are made."""
_LOADING = threading.Lock()  # what a class reads while it is made is recorded for the whole process


class InProcessWorkers:
    """`streamer.ports.Workers`: one worker, which does what it was given whenever `work` is called.

    The model is loaded once and kept; `attach` lends it to another run. `causes` has the exceptions behind the failures
    of this run's texts, by the failure's identity, and `error` the last one, which may have kept it from loading.
    """

    count = 1

    def __init__(self, spec: WorkerSpec, given: object = None) -> None:
        """`given` is a class or an instance that serves as the model, in the place of what `spec` names."""
        self.error: BaseException | None = None
        self.causes: dict[int, tuple[DataFailure, BaseException]] = {}
        self._spec = spec
        self._given = given
        self._post: Post = lambda _: None
        self._pool = _Desk()
        self._served: tuple[ModelCard, Encoder, Forwarder | Generator] | None = None
        self._starting = False
        self._todo: list[Compute] = []
        self._errors: dict[int, BaseException] = {}

    def attach(self, post: Post) -> None:
        """From now on this run's facts go there."""
        self._post = post
        self.error = None
        self.causes.clear()
        self._errors.clear()

    def start(self, worker: int) -> None:
        """Load at the next `work`, unless it is loaded."""
        self._starting = True

    def send(self, worker: int, work: Work) -> None:
        """Keep it for the next `work`."""
        self._todo.append(Compute(work.numbers, work.texts, work.pairs, work.params, work.alone, work.answer_bytes))

    def kill(self, worker: int) -> None:
        """Nobody can."""

    def close(self, timeout_s: float) -> None:
        """Forget what was not done; the model stays for the next run."""
        self._todo.clear()
        self._starting = False

    def work(self) -> None:
        """Do all that is waiting. An interrupt goes through, and the model is loaded again after it."""
        todo, self._todo = self._todo, []
        try:
            if self._starting:
                self._starting = False
                self._served = self._served or self._load()
                self._post(fact_of(0, Ready(self._served[0])))
            if todo and self._served is not None:
                _, encoder, runner = self._served
                for one in todo:
                    encoder.encode(one)
                self._pool.reopen()
                compute(runner, self._pool)
        except WorkerFailureError as failure:
            self._drop()
            self.error = failure.__cause__ or self.error
            kind, code = failure.failure, failure.exit_code
            self._post(WorkerLost(0, failure=kind, exit_code=code, message=str(failure), suspects=failure.suspects))
        except BaseException:
            self._drop()
            raise

    def _load(self) -> tuple[ModelCard, Encoder, Forwarder | Generator]:
        load = None if self._given is None else lambda spec, _: GivenModel(spec, self._given)
        with _LOADING, process_left_alone():
            model: Model = load_model(Start(0, self._spec), load)
        if isinstance(model, StreamingModel):
            # Its threads would keep this process from ending. `forward` runs what streams elsewhere, and says the same.
            end_threads: Callable[[], object] = getattr(model, "close", lambda: None)
            end_threads()
        runner = make_runner(model, self._emit, self._pool, self._spec, self._on_error)
        return model.card, Encoder(model, self._emit, self._pool, self._spec.max_text_bytes, self._on_error), runner

    def _drop(self) -> None:
        self._served = None
        self._pool = _Desk()

    def _emit(self, message: Started | Encoding | Holding | Done) -> None:
        if isinstance(message, Done):
            for index, failure in message.failures.items():
                error = self._errors.pop(message.numbers[index], None)
                if error is not None:
                    self.causes[id(failure)] = failure, error
            while len(self.causes) > KEPT_CAUSES:
                del self.causes[next(iter(self.causes))]
        self._post(fact_of(0, message))

    def _on_error(self, numbers: Sequence[int], error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | BdbQuit) or _is_pytests(error):
            raise error  # somebody wants the run to end: it says nothing of the text
        self.error = error
        if len(numbers) == 1:
            if len(self._errors) >= KEPT_CAUSES:
                self._errors.clear()
            self._errors[numbers[0]] = error


def _is_pytests(error: BaseException) -> bool:
    """Whether it ends a test, such as `pytest.fail` of a time limit."""
    return any(kind.__module__ == "_pytest.outcomes" for kind in type(error).__mro__)


class WorkingInbox(SimpleQueue[Input]):
    """A driver's inbox whose reader does the workers' work when nothing else is there to be done."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._work = work

    def get(self, block: bool = True, timeout: float | None = None) -> Input:
        """As a queue's."""
        if self.empty():
            self._work()
        return super().get(block, timeout)


class _Desk(Pool):
    """A pool that one thread fills and empties: it has room for all, and is stopped once there is nothing left."""

    def reopen(self) -> None:
        """There is something again."""
        self._stopped = False

    def full(self, tokens: int) -> bool:
        return False

    def take(self, *, wait: bool = True) -> list[Computation] | Iterator[Computation] | None:
        taken = super().take(wait=False)
        self._stopped = wait and taken is None
        return taken


class GivenModel(CustomModel):
    """A class of this process, or an instance of one, as a `python:` class that can't be found by name.

    Its revision is that of its source alone: so its answers are never shared with other processes.
    """

    def __init__(self, spec: WorkerSpec, given: object) -> None:
        kind: Any = given if inspect.isclass(given) else type(given)
        name = f"{kind.__module__}:{kind.__qualname__}"
        if not callable(getattr(kind, "predict", None)):
            raise ModelError(f"{name} must be a class with a method predict(inputs)")
        predictor: Any = kind(dict(spec.options)) if inspect.isclass(given) else given
        revision = hashlib.sha256(f"{name}\n{_source(kind)}".encode()).hexdigest()
        self._adopt(spec, predictor, name, ClassIdentity(revision, shared=False))


def _source(kind: type[Any]) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # typed at a prompt
        return ""


@contextmanager
def process_left_alone() -> Iterator[None]:
    """A worker process sets torch's threads, and tells transformers of two packages that they are not there, to start
    sooner. Here both may have other users."""
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else 0
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(threads)
            from streamer.inference.backends.compat import bring_unused_packages_back

            bring_unused_packages_back()
