"""One worker process as the driver sees it."""

from __future__ import annotations

import logging
import queue
import signal
import socket
import threading
from collections.abc import Callable

import msgspec

from streamer.core.pipeline.protocol import (
    EncodeStarted,
    ForwardDone,
    ForwardStarted,
    Input,
    WorkerHolds,
    WorkerLost,
    WorkerReady,
)
from streamer.core.record import Answer
from streamer.errors import DataFailure, FailureClass
from streamer.inference.channel import (
    Channel,
    Compute,
    Done,
    Encoding,
    Failed,
    FromWorker,
    Holding,
    Ready,
    Said,
    Start,
    Started,
    Stop,
)
from streamer.inference.parent.launch import Launched, Launcher
from streamer.inference.spec import WorkerSpec
from streamer.ports import Post

log = logging.getLogger(__name__)

# A worker whose socket closed has this long to end by itself before it is killed.
_EXIT_GRACE_S = 2.0


class WorkerProcess:
    """A worker with a thread that reads its frames, one that writes to it, and one that waits for its end.

    Posts its facts, and exactly one `WorkerLost` at the end, unless `close` was asked for.
    """

    def __init__(
        self, worker: int, spec: WorkerSpec, launcher: Launcher, post: Post, served: Callable[[], bool] = bool
    ) -> None:
        """`served` tells whether any worker of this model was ever ready."""
        self.worker = worker
        self._served = served
        self._launcher = launcher
        self._spec = spec
        self._post = post
        self._outbox: queue.SimpleQueue[Compute | Start | Stop | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process: Launched | None = None
        self._killed = False
        self._closing = False
        self._exited = threading.Event()
        self._status = 0
        self._ended = threading.Event()

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        process = self._process
        return None if process is None or self._ended.is_set() else process.pid

    def spawn(self) -> None:
        """Start the process; call it from a thread that lives as long as the worker shall (PR_SET_PDEATHSIG)."""
        try:
            ours, process = self._open()
        except OSError as error:
            self._ended.set()
            message = (
                f"can't start a worker ({error.strerror}); raise the limits of open files and processes, or free memory"
            )
            self._lose(WorkerLost(self.worker, failure=FailureClass.DEVICE, message=message))
            return
        with self._lock:
            self._process = process
            if self._killed:
                process.kill()
        channel: Channel[FromWorker] = Channel(ours, FromWorker)
        name = f"worker-{self.worker}"
        writer = threading.Thread(target=self._write, args=(channel,), name=f"{name}-writer", daemon=True)
        reader = threading.Thread(
            target=self._read, args=(channel, process, writer), name=f"{name}-reader", daemon=True
        )
        end = threading.Thread(target=self._await, args=(channel, process), name=f"{name}-end", daemon=True)
        for thread in (writer, reader, end):
            thread.start()

    def send(self, message: Compute | Stop) -> None:
        """Queue a message; never blocks. What is sent to a dead worker is gone: its `WorkerLost` says so."""
        self._outbox.put(message)

    def kill(self) -> None:
        """SIGKILL, also when it is only about to start."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def ask_to_exit(self) -> None:
        """From now on nothing is posted of its end."""
        self._closing = True
        self._outbox.put(Stop())

    def wait(self, timeout_s: float) -> bool:
        """True when the process has ended within `timeout_s`."""
        return self._ended.wait(max(0.0, timeout_s))

    def _open(self) -> tuple[socket.socket, Launched]:
        """The process, and our end of its socket. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                return ours, self._launcher.launch(theirs)
        except OSError:
            ours.close()
            raise

    def _write(self, channel: Channel[FromWorker]) -> None:
        channel.send(Start(self.worker, self._spec))
        while (message := self._outbox.get()) is not None:
            channel.send(message)

    def _await(self, channel: Channel[FromWorker], process: Launched) -> None:
        """The process tells its end, not the socket, which a process that the model started may have inherited."""
        self._status = process.wait()
        self._exited.set()
        channel.end()

    def _read(self, channel: Channel[FromWorker], process: Launched, writer: threading.Thread) -> None:
        last_word: Failed | None = None
        while (message := channel.receive()) is not None:
            match message:
                case Done() | Encoding() | Started() | Holding() | Ready():
                    self._post(fact_of(self.worker, message))
                case Failed():
                    last_word = message
                case Said():
                    log.log(message.level, "worker %d of %s: %s", self.worker, self._spec.pipeline, message.message)
        if not self._exited.wait(_EXIT_GRACE_S):
            process.kill()
            self._exited.wait()
        self._outbox.put(None)
        writer.join()
        channel.close()
        self._ended.set()
        self._lose(self._lost(self._status, last_word))

    def _lost(self, status: int, last_word: Failed | None) -> WorkerLost:
        if last_word is not None:
            return WorkerLost(
                self.worker,
                failure=last_word.failure,
                exit_code=last_word.exit_code,
                message=last_word.message,
                suspects=last_word.suspects,
            )
        if self._killed:
            message = "the worker did not answer within lease_s, or not load within load_s, and was killed"
        elif status < 0:
            message = f"the worker died of {signal.Signals(-status).name}"
        else:
            message = f"the worker exited with status {status}"
        return WorkerLost(self.worker, signal=max(0, -status), hung=self._killed, message=message)

    def _lose(self, lost: WorkerLost) -> None:
        if self._closing:
            return
        if lost.failure is not FailureClass.CODE or self._served():  # else it ends the run with the same message
            log.warning("worker %d of %s is lost: %s", self.worker, self._spec.pipeline, lost.message)
        self._post(lost)


def fact_of(worker: int, message: Done | Encoding | Started | Holding | Ready) -> Input:
    """What the worker says, as the core takes it."""
    match message:
        case Done():
            return _forward_done(worker, message)
        case Encoding():
            return EncodeStarted(worker, message.numbers)
        case Started():
            return ForwardStarted(worker, message.numbers)
        case Holding():
            return WorkerHolds(worker, message.why)
        case Ready():
            return WorkerReady(worker, message.card)


def _forward_done(worker: int, done: Done) -> ForwardDone:
    """Columns into outcomes."""
    measures = done.measures or [b""] * len(done.numbers)
    outcomes: list[Answer | DataFailure] = [
        Answer(output, False, False, tokens, False, measured) if output is not None else done.failures[index]
        for index, (output, tokens, measured) in enumerate(zip(done.outputs, done.tokens, measures, strict=True))
    ]
    for index in done.truncated:
        if isinstance(answer := outcomes[index], Answer):
            outcomes[index] = msgspec.structs.replace(answer, truncated=True)
    return ForwardDone(
        worker,
        done.numbers,
        outcomes,
        real_tokens=done.real_tokens,
        computed_tokens=done.computed_tokens,
        seconds=done.seconds,
        passes=done.passes,
        forwarded=done.forwarded,
        code_spans=done.code_spans,
    )
