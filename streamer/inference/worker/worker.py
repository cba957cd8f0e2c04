"""The worker's program: receive texts, encode them in one thread, run forward batches in the main one.

Started by `launch`, as `python -m streamer.inference.worker.worker FD PARENT` or by a fork of the fork server. It never
outlives its driver: a thread watches the socket and ends the process at its end, also in mid-forward.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import EDQUOT, EMFILE, ENFILE, ENOMEM, ENOSPC
from typing import Final, NoReturn

import msgspec

from streamer.errors import ExitCode, FailureClass, ModelError
from streamer.extras import advice
from streamer.inference.channel import (
    Channel,
    Compute,
    Done,
    Failed,
    Holding,
    Ready,
    Said,
    Start,
    Started,
    Stop,
    ToWorker,
)
from streamer.inference.generation.generator import Announcer, Generator, SteppingModel, StreamingModel
from streamer.inference.model import Model
from streamer.inference.spec import WORKER_NAME, WorkerSpec
from streamer.inference.worker.answer_limit import WorkerChannel
from streamer.inference.worker.encoding import Encoder
from streamer.inference.worker.forward_traces import ForwardTraces
from streamer.inference.worker.forwarder import (
    WINDOW,
    Computation,
    Forwarder,
    OnError,
    ProbeError,
    WorkerFailureError,
    ignore,
)
from streamer.inference.worker.trouble import is_out_of_memory, place_of
from streamer.machine.kernel import end_with_parent, name_process
from streamer.machine.malloc import give_back, keep_freed

log = logging.getLogger(__name__)

# So many may be encoded and wait, at some 40 bytes each.
HELD_TOKENS = 1 << 21
_FULL: Final = frozenset({ENOSPC, EDQUOT, ENOMEM, EMFILE, ENFILE})


class Pool:
    """Encoded computations between the encoding thread and the forward thread, in the order of the driver's sends; and
    suspects, by themselves. Bounded in tokens."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[list[Computation], int]] = deque()
        self._tokens = 0
        self._suspects: Iterator[Computation] | None = None
        self._changed = threading.Condition()
        self._stopped = False

    def full(self, tokens: int) -> bool:
        """Whether `put` would wait."""
        return bool(self._waiting) and self._tokens + tokens > HELD_TOKENS

    def put(self, computations: list[Computation], tokens: int) -> None:
        """Add computations of so many tokens; waits for room."""
        with self._changed:
            while self.full(tokens) and not self._stopped:
                self._changed.wait()
            self._waiting.append((computations, tokens))
            self._tokens += tokens
            self._changed.notify_all()

    def put_suspects(self, suspects: Iterator[Computation]) -> None:
        """Add suspects, which are encoded as they are taken: nothing else is under way then."""
        with self._changed:
            self._suspects = suspects
            self._changed.notify_all()

    def stop(self) -> None:
        """Let the next `take` return None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether the worker shall end."""
        return self._stopped

    def take(self, *, wait: bool = True) -> list[Computation] | Iterator[Computation] | None:
        """All computations that are there, up to a window; or suspects, as an iterator. None once stopped, and where
        there are none and `wait` is False."""
        with self._changed:
            while wait and not (self._waiting or self._suspects or self._stopped):
                self._changed.wait()
            if self._stopped:
                return None
            if not self._waiting:
                suspects, self._suspects = self._suspects, None
                return suspects
            return self._first(WINDOW)

    def more(self, most: int) -> list[Computation]:
        """The computations that are there, up to so many; none once stopped."""
        with self._changed:
            return [] if self._stopped else self._first(most)

    def _first(self, most: int) -> list[Computation]:
        window: list[Computation] = []
        while self._waiting and len(window) < most:
            computations, tokens = self._waiting.popleft()
            self._tokens -= tokens
            room = most - len(window)
            if room < len(computations):
                kept = tokens * (len(computations) - room) // len(computations)
                self._waiting.appendleft((computations[room:], kept))
                self._tokens += kept
            window += computations[:room]
        self._changed.notify_all()
        return window


class _ChannelHandler(logging.Handler):
    """Log lines go to the driver, which has the log's format."""

    def __init__(self, channel: Channel[ToWorker]) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.send(Said(record.levelno, record.getMessage()))


def watch(channel: Channel[ToWorker], inbox: queue.SimpleQueue[Compute], pool: Pool) -> NoReturn:
    """Receive until the driver is gone, then end this process wherever it stands."""
    while (message := channel.receive()) is not None:
        if isinstance(message, Compute):
            inbox.put(message)
        elif isinstance(message, Stop):
            pool.stop()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with all that the model has started
    os._exit(ExitCode.DONE)


def serve(channel: Channel[ToWorker], start: Start) -> None:
    """Load the model, pass the probe, then run what comes until told to stop. Raises `WorkerFailureError`."""
    inbox: queue.SimpleQueue[Compute] = queue.SimpleQueue()
    pool = Pool()
    _start_thread(channel, "watch", lambda: watch(channel, inbox, pool))
    began = time.perf_counter()
    model = load_model(start)
    runner = make_runner(model, channel.send, pool, start.spec)
    gc.collect()
    gc.freeze()  # the model's objects live as long as the process: never walk them again
    give_back()  # what loading took and passes need not
    keep_freed()
    encoder = Encoder(model, channel.send, pool, start.spec.max_text_bytes)
    _start_thread(channel, "encode", lambda: encoder.run(inbox))
    channel.send(Ready(msgspec.structs.replace(model.card, load_s=round(time.perf_counter() - began, 3))))
    try:
        compute(runner, pool)
    except WorkerFailureError:
        raise
    except BaseException as error:
        _die_of_bug(channel, error)


def compute(runner: Forwarder | Generator, pool: Pool) -> None:
    """Run what is in the pool until it is stopped. Raises `WorkerFailureError` when the worker must end."""
    if isinstance(runner, Generator):
        runner.run()
        return
    while (taken := pool.take()) is not None:
        if isinstance(taken, list):
            runner.run(taken, pool.more)
        else:
            runner.run_alone(taken)


def make_runner(
    model: Model,
    emit: Callable[[Started | Holding | Done], object],
    pool: Pool,
    spec: WorkerSpec,
    on_error: OnError = ignore,
) -> Forwarder | Generator:
    """What runs the model, whose probe has passed. Raises `WorkerFailureError` where it does not."""
    traces = ForwardTraces(spec, own_code=model.card.backend == "python")
    runner = _runner(model, emit, pool, spec.batch_tokens, on_error, traces)
    try:
        runner.run_probe()
    except ProbeError as error:
        if error.at_start is None:
            raise
        message = str(error)
        if error.at_start is ExitCode.HALTED:
            message = f"{spec.model}: {message}: its weights or its dtype are at fault"
        raise WorkerFailureError(FailureClass.CODE, message, error.at_start) from None
    return runner


def _runner(
    model: Model,
    emit: Callable[[Started | Holding | Done], object],
    pool: Pool,
    batch_tokens: int,
    on_error: OnError,
    traces: ForwardTraces,
) -> Forwarder | Generator:
    """What suits the model: one whose answers take many steps renews its lease meanwhile."""
    if isinstance(model, StreamingModel):
        return Generator(model, emit, pool, batch_tokens, on_error, traces)
    if isinstance(model, SteppingModel):
        announcer = Announcer(emit)
        model.on_step = announcer.renew
        return Forwarder(model, announcer.pass_on, batch_tokens, on_error, traces)
    return Forwarder(model, emit, batch_tokens, on_error, traces)


def load_model(start: Start, load: Callable[[WorkerSpec, int], Model] | None = None) -> Model:
    """Every failure to load is one of the configuration or of the model, said in words; no event has been seen yet. But
    memory, disks and tables that are full are so for a while. Raises `WorkerFailureError`."""
    if load is None:
        from streamer.inference.tasks import families

        load = families.load
    try:
        return load(start.spec, start.worker)
    except (KeyboardInterrupt, WorkerFailureError):  # a worker process gets no interrupt
        raise
    except ModelError as error:
        raise WorkerFailureError(FailureClass.CODE, str(error), error.exit_code) from None
    except BaseException as error:
        why = advice(error) or f"{type(error).__name__}: {error}"
        message = f"model {start.spec.model} can't be loaded: {why}"
        full = is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in _FULL)
        kind = FailureClass.DEVICE if full else FailureClass.CODE
        raise WorkerFailureError(kind, message, ExitCode.CONFIGURATION) from error


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the thread that launched us ends: the second line behind the socket's end."""
    end_with_parent()
    if os.getppid() != parent:
        os._exit(ExitCode.DONE)


def _start_thread(channel: Channel[ToWorker], name: str, run: Callable[[], object]) -> None:
    """A thread of ours: what it raises ends the worker, or that would stand still."""

    def guarded() -> None:
        try:
            run()
        except WorkerFailureError as failure:
            _fail(channel, failure)
        except BaseException as error:
            _die_of_bug(channel, error)

    threading.Thread(target=guarded, name=name, daemon=True).start()


def _fail(channel: Channel[ToWorker], failure: WorkerFailureError) -> NoReturn:
    """End with a last word."""
    channel.send(Failed(failure.failure, failure.exit_code, str(failure), failure.suspects))
    _exit(failure.exit_code)


def _die_of_bug(channel: Channel[ToWorker], error: BaseException) -> NoReturn:
    """Of ours. A text may have brought it about: whatever is announced is suspect, as of any death without a last word.
    The error's message is dropped: it may quote a text."""
    channel.send(Said(logging.ERROR, f"a bug in the worker: {type(error).__name__} at {place_of(error)}"))
    _exit(ExitCode.BUG)


def _exit(code: int) -> NoReturn:
    # Not sys.exit: the model's threads may stand in native code, and nothing is left to save.
    with suppress(BaseException):
        sys.stderr.flush()
    os._exit(code)


def print_to_log() -> None:
    """What is printed goes where errors go: `streamer infer` writes answers to standard output."""
    with suppress(OSError):
        os.dup2(2, 1)


def _keep_apart(sock: socket.socket, handler: logging.Handler) -> None:
    """From what the model starts and prints. Its processes make a group, which ends with this one, and they don't
    inherit our socket."""
    sock.set_inheritable(False)
    with suppress(OSError):
        os.setpgid(0, 0)
    print_to_log()

    def forget() -> None:
        logging.getLogger("streamer").removeHandler(handler)
        os.close(sock.detach())

    os.register_at_fork(after_in_child=forget)


def work(sock: socket.socket, parent: int) -> NoReturn:
    """Serve on `sock`; a terminal's Ctrl-C is the driver's to act on, which then closes us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(parent)
    name_process(WORKER_NAME)
    channel = WorkerChannel(sock)
    handler = _ChannelHandler(channel)
    _keep_apart(sock, handler)
    root = logging.getLogger("streamer")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    threading.excepthook = _log_crash
    start = channel.receive()
    if isinstance(start, Start):
        try:
            serve(channel, start)
        except WorkerFailureError as failure:
            _fail(channel, failure)
        except BaseException as error:
            message = f"a bug in the worker: {type(error).__name__} at {place_of(error)}"
            _fail(channel, WorkerFailureError(FailureClass.CODE, message, ExitCode.BUG))
    _exit(ExitCode.DONE)


def _log_crash(crash: threading.ExceptHookArgs) -> None:
    """Of a thread that is the model's own: what it was for, the model must know."""
    if crash.exc_value is not None:
        name, place = crash.exc_type.__name__, place_of(crash.exc_value)
        log.error("a thread that the model started ended by an exception: %s at %s", name, place)


if __name__ == "__main__":
    work(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
