"""How a worker's process comes to be: spawned, or forked from a process that has imported already."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Protocol

from streamer import stderr
from streamer.inference.models.reference import may_be_files
from streamer.inference.parent.fork_orders import NOTICE, ORDER, Notice, Order, end_group
from streamer.inference.spec import WorkerSpec, worker_environment
from streamer.inference.tasks.families import TASKS
from streamer.machine.affinity import everywhere
from streamer.machine.processors import usable_gpus


class Launched(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""

    def wait(self) -> int:
        """Its exit code, below 0 the number of the signal that ended it; what it left behind of processes is ended. One
        thread may wait."""


class _Spawned:
    """A process of ours that leads a group."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self.pid = process.pid

    def kill(self) -> None:
        """As `Launched`'s. Not Popen's, which may reap."""
        with self._lock:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """As `Launched`'s. Until it is reaped, its number is nobody else's."""
        if sys.platform != "linux":
            self._process.wait()
            end_group(self.pid)
            return self._process.returncode
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        end_group(self.pid)
        with self._lock:
            return self._process.wait()


class Launcher(Protocol):
    """Starts workers. A worker lives no longer than the thread that launched it."""

    def launch(self, theirs: socket.socket) -> Launched:
        """Start a worker that is served over `theirs`. Raises OSError."""

    def close(self) -> None:
        """End what workers were launched from, and with it all of them."""


def make_launcher(spec: WorkerSpec) -> Launcher:
    """A fork server for families of transformers on a CPU. A GPU's driver does not survive a fork, and models without
    torch start at once."""
    forks = (
        sys.platform == "linux"
        and _has_pidfds()
        and spec.task in TASKS
        and may_be_files(spec.model)  # if not, a worker that imports nothing says so at once
        and (spec.device == "cpu" or (spec.device == "auto" and not usable_gpus("auto", os.environ)))
    )
    return ForkServer(spec) if forks else Spawner(spec)


def _has_pidfds() -> bool:
    """Linux has them since 5.3; a container's seccomp profile may forbid them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


class Spawner:
    """A fresh interpreter for each worker."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._environment = os.environ | worker_environment(spec)

    def launch(self, theirs: socket.socket) -> Launched:
        """Start the interpreter; the model's libraries load in it."""
        return _Spawned(_spawn("streamer.inference.worker.worker", theirs, self._environment))

    def close(self) -> None:
        """There is nothing to end."""


class ForkServer:
    """Workers forked from one process, which is started with the first and again should it have died."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._task = spec.task
        self._environment = os.environ | worker_environment(spec)
        self._spawner = Spawner(spec)
        self._lock = threading.Lock()
        self._closed = False
        self._server: _Server | None = None
        self._unfit = False

    def launch(self, theirs: socket.socket) -> Launched:
        """Fork; the first waits for the imports, which a worker of its own would have to do too."""
        if not self._unfit:
            worker = self._running().fork(theirs)
            if worker is not None:
                return worker
            self._unfit = True
        return self._spawner.launch(theirs)

    def close(self) -> None:
        """Kill the server; the kernel then kills its workers."""
        with self._lock:
            self._closed = True
            server = self._server
        if server is not None:
            server.close()

    def _running(self) -> _Server:
        with self._lock:
            if self._closed:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            if self._server is None or self._server.ended:
                self._server = _Server(self._task, self._environment)
            return self._server


class _Server:
    """One fork server that runs, as its driver sees it."""

    def __init__(self, task: str, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._numbers = count()
        self._children: dict[int, _Forked] = {}
        self._unfit = False
        self.ended = False
        try:
            with theirs:
                self._process = _spawn("streamer.inference.worker.fork_server", theirs, environment, task)
        except OSError:
            self._control.close()
            raise
        self._reader = threading.Thread(target=self._read, name="fork-server-reader", daemon=True)
        self._reader.start()

    def fork(self, theirs: socket.socket) -> _Forked | None:
        """A worker; None when this server may not fork. Raises OSError."""
        child = _Forked(self, next(self._numbers))
        with self._lock:
            if not self.ended:
                self._children[child.number] = child
                socket.send_fds(self._control, [ORDER.pack(Order.FORK, child.number)], [theirs.fileno()])
            else:
                child.end(self._process.returncode)
        child.answered.wait()
        if self._unfit:
            return None
        if child.refused:
            raise OSError(child.refused, os.strerror(child.refused))
        return child

    def kill(self, number: int) -> None:
        """By the server, which knows whether the process id is still the child's."""
        with self._lock:
            if number in self._children:
                with suppress(OSError):  # the server is dead, and what it forked with it
                    self._control.send(ORDER.pack(Order.KILL, number))

    def close(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        self._reader.join()

    def _read(self) -> None:
        while notice := self._receive():
            kind, number, value = NOTICE.unpack(notice)
            if kind == Notice.UNFIT:
                self._unfit = True
                continue
            with self._lock:
                child = self._children[number] if kind == Notice.FORKED else self._children.pop(number)
            if kind == Notice.FORKED:
                child.begin(value)
            elif kind == Notice.REFUSED:
                child.refuse(value)
            else:
                child.end(value)
        status = self._process.wait()
        with self._lock:
            self.ended = True
            orphans = list(self._children.values())
            self._children.clear()
            self._control.close()
        for child in orphans:  # the kernel has killed those that there were
            if child.pid:
                end_group(child.pid)
            child.end(-signal.SIGKILL if child.pid else status)

    def _receive(self) -> bytes:
        """The next notice; nothing when the server has ended."""
        try:
            return self._control.recv(NOTICE.size)
        except ConnectionResetError:  # it ended with an order unread
            return b""


class _Forked:
    """A worker that a server has forked, or will have."""

    def __init__(self, server: _Server, number: int) -> None:
        self.number = number
        self.pid = 0
        self.refused = 0
        self.answered = threading.Event()
        self._server = server
        self._ended = threading.Event()
        self._status = 0

    def begin(self, pid: int) -> None:
        """It was forked."""
        self.pid = pid
        self.answered.set()

    def refuse(self, error: int) -> None:
        """It could not be forked, with this errno."""
        self.refused = error
        self.answered.set()

    def end(self, status: int) -> None:
        """It has ended, or its server before it began."""
        self._status = status
        self._ended.set()
        self.answered.set()

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._server.kill(self.number)

    def wait(self) -> int:
        """As `Launched`'s."""
        self._ended.wait()
        return self._status


def _spawn(
    module: str, theirs: socket.socket, environment: Mapping[str, str], *arguments: str
) -> subprocess.Popen[bytes]:
    """Run a module as a program that is told its socket and its parent. Raises OSError."""
    with everywhere():
        return subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid()), *arguments],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=stderr.descriptor,
            stderr=stderr.descriptor,
            env=environment,
        )
