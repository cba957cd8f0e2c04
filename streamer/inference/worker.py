"""The worker's program: receive texts, encode them in one thread, run forward batches in the main one.

Started by `launch`, as `python -m streamer.inference.worker FD PARENT` or by a fork of the fork server. It never
outlives its driver: a thread watches the socket and ends the process at its end, also in mid-forward.
"""

from __future__ import annotations

import ctypes
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
from typing import NoReturn

import msgspec

from streamer.errors import Code, DataFailure, ExitCode, FailureClass, ModelError
from streamer.heap import give_back, keep_freed
from streamer.inference.answer_limit import WorkerChannel
from streamer.inference.channel import Channel, Compute, Done, Failed, Ready, Said, Start, Stop, ToWorker
from streamer.inference.forwarder import (
    Computation,
    Forwarder,
    NonFiniteProbeError,
    WorkerFailureError,
    place_of,
)
from streamer.inference.generator import Announcer, Generator, SteppingModel, StreamingModel
from streamer.inference.model import Encoded, Model
from streamer.inference.spec import WORKER_NAME

# Of so many computations the lengths are sorted before they are cut into forward batches: with 1,024 a padded batch
# holds about 1.07 to 1.17 tokens for each real one.
WINDOW = 1024
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class Pool:
    """Encoded computations between the encoding thread and the forward thread, in the order of the driver's sends."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[list[Computation], bool]] = deque()
        self._changed = threading.Condition()
        self._stopped = False

    def put(self, computations: list[Computation], *, alone: bool) -> None:
        """Add what one `Compute` holds."""
        with self._changed:
            self._waiting.append((computations, alone))
            self._changed.notify()

    def stop(self) -> None:
        """Let the next `take` return None."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    @property
    def stopped(self) -> bool:
        """Whether the worker shall end."""
        return self._stopped

    def take(self, *, wait: bool = True) -> tuple[list[Computation], bool] | None:
        """All computations that are there up to a window or to suspects, or suspects (True). None once stopped, and
        where there are none and `wait` is False."""
        with self._changed:
            while wait and not (self._waiting or self._stopped):
                self._changed.wait()
            if self._stopped or not self._waiting:
                return None
            window, alone = self._waiting.popleft()
            while not alone and len(window) < WINDOW and self._waiting and not self._waiting[0][1]:
                window = window + self._waiting.popleft()[0]
            if not alone and len(window) > WINDOW:
                self._waiting.appendleft((window[WINDOW:], False))
                window = window[:WINDOW]
            return window, alone


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
    os._exit(ExitCode.DONE)


def encode(channel: Channel[ToWorker], inbox: queue.SimpleQueue[Compute], pool: Pool, model: Model, limit: int) -> None:
    """Turn work into computations; what fails here is answered at once."""
    while True:
        work = inbox.get()
        encoded = encode_work(model, work, limit)
        numbers = work.numbers
        failures = [(n, e) for n, e in zip(numbers, encoded, strict=True) if type(e) is DataFailure]
        if failures:
            channel.send(
                Done(
                    numbers=[number for number, _ in failures],
                    outputs=[None] * len(failures),
                    tokens=[0] * len(failures),
                    truncated=[],
                    failures={index: failure for index, (_, failure) in enumerate(failures)},
                )
            )
            answered = {number for number, _ in failures}
            encoded = [one for one in encoded if type(one) is not DataFailure]
            numbers = [number for number in numbers if number not in answered]
        if numbers:
            pool.put(list(map(Computation, numbers, encoded)), alone=work.alone)  # type: ignore[arg-type]


def encode_work(model: Model, work: Compute, max_text_bytes: int) -> list[Encoded | DataFailure]:
    """Encode all at once; when that raises, one by one, so that only the text at fault fails."""
    try:
        encoded = model.encode(work.texts, work.pairs, work.params)
    except BaseException:
        encoded = [_encode_one(model, work, index) for index in range(len(work.texts))]
    if max_text_bytes:
        for index, text in enumerate(work.texts):
            # A character has at most four bytes: most texts need no count.
            if len(text) * 4 > max_text_bytes and len(text.encode("utf-8", "surrogatepass")) > max_text_bytes:
                message = f"the text is larger than max_text_bytes ({max_text_bytes})"
                encoded[index] = DataFailure(Code.INFER_TOO_LONG, message)
    return encoded


def _encode_one(model: Model, work: Compute, index: int) -> Encoded | DataFailure:
    pairs = work.pairs[index : index + 1] if work.pairs is not None else None
    params = work.params[index : index + 1] if work.params is not None else None
    try:
        return model.encode(work.texts[index : index + 1], pairs, params)[0]
    except BaseException as error:
        name = type(error).__name__
        return DataFailure(Code.INFER_EXCEPTION, f"the text could not be encoded ({name})", name)


def serve(channel: Channel[ToWorker], start: Start) -> None:
    """Load the model, pass the probe, then run what comes until told to stop. Raises `WorkerFailureError`."""
    inbox: queue.SimpleQueue[Compute] = queue.SimpleQueue()
    pool = Pool()
    threading.Thread(target=watch, args=(channel, inbox, pool), name="watch", daemon=True).start()
    began = time.perf_counter()
    model = _load(start)
    runner = _runner(model, channel, pool, start.spec.batch_tokens)
    try:
        runner.run_probe()
    except NonFiniteProbeError:
        message = (
            f"model {start.spec.model} gives NaN or infinity for a known text: its weights or its dtype are at fault"
        )
        raise WorkerFailureError(FailureClass.CODE, message, ExitCode.HALTED) from None
    except WorkerFailureError as failure:
        if failure.failure is FailureClass.CODE:
            raise WorkerFailureError(FailureClass.CODE, str(failure), ExitCode.CONFIGURATION) from None
        raise
    gc.collect()
    gc.freeze()  # the model's objects live as long as the process: never walk them again
    give_back()  # what loading took and passes need not
    keep_freed()
    arguments = (channel, inbox, pool, model, start.spec.max_text_bytes)
    threading.Thread(target=encode, args=arguments, name="encode", daemon=True).start()
    channel.send(Ready(msgspec.structs.replace(model.card, load_s=round(time.perf_counter() - began, 3))))
    if isinstance(runner, Generator):
        runner.run()
        return
    while (taken := pool.take()) is not None:
        computations, suspects = taken
        if suspects:
            runner.run_alone(computations)
        else:
            runner.run(computations)


def _runner(model: Model, channel: Channel[ToWorker], pool: Pool, batch_tokens: int) -> Forwarder | Generator:
    """What suits the model: one whose answers take many steps renews its lease meanwhile."""
    if isinstance(model, StreamingModel):
        return Generator(model, channel.send, pool, batch_tokens)
    if isinstance(model, SteppingModel):
        announcer = Announcer(channel.send)
        model.on_step = announcer.renew
        return Forwarder(model, announcer.pass_on, batch_tokens)
    return Forwarder(model, channel.send, batch_tokens)


def _load(start: Start) -> Model:
    """Every failure to load is one of the configuration or of the model, said in words; no event has been seen yet."""
    from streamer.inference.families import load

    try:
        return load(start.spec, start.worker)
    except ModelError as error:
        raise WorkerFailureError(FailureClass.CODE, str(error), error.exit_code) from None
    except BaseException as error:
        message = f"model {start.spec.model} can't be loaded: {type(error).__name__}: {error}"
        raise WorkerFailureError(FailureClass.CODE, message, ExitCode.CONFIGURATION) from error


def name_process(name: str) -> None:
    """Tell the kernel what to call it: a forked process has its parent's command line."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the thread that launched us ends: the second line behind the socket's end."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(ExitCode.DONE)


def _end_by_bug(channel: Channel[ToWorker], error: BaseException | None) -> NoReturn:
    """A bug of ours in any thread ends the worker, or it would stand still; the message is dropped: it may quote."""
    place = place_of(error) if error is not None else "an unknown place"
    message = f"a bug in the worker: {type(error).__name__} at {place}"
    channel.send(Failed(FailureClass.CODE, ExitCode.BUG, message))
    os._exit(ExitCode.BUG)


def work(sock: socket.socket, parent: int) -> NoReturn:
    """Serve on `sock`; a terminal's Ctrl-C is the driver's to act on, which then closes us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(parent)
    name_process(WORKER_NAME)
    channel = WorkerChannel(sock)
    root = logging.getLogger("streamer")
    root.addHandler(_ChannelHandler(channel))
    root.setLevel(logging.INFO)
    root.propagate = False
    threading.excepthook = lambda crash: _end_by_bug(channel, crash.exc_value)
    exit_code = ExitCode.DONE
    start = channel.receive()
    if isinstance(start, Start):
        try:
            serve(channel, start)
        except WorkerFailureError as failure:
            exit_code = failure.exit_code
            channel.send(Failed(failure.failure, failure.exit_code, str(failure)))
        except BaseException as error:
            _end_by_bug(channel, error)
    # Not sys.exit: the model's threads may stand in native code, and nothing is left to save.
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    work(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
