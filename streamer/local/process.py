"""One process of the local stack, and the watchdog that ends it with its starter."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from streamer.local import watchdog as watchdog_program
from streamer.local.errors import PortTaken, StartFailed
from streamer.local.watchdog import signal_group, started_at

_POLL_S = 0.02
_LOG_LINES = 5
_PORT_TAKEN_MARK = "address already in use"


class Watchdog:
    """A small process that kills what it watches, and removes its folders, once this process is gone."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog_program.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def watch(self, pid: int, started: str) -> None:
        """Kill the process group that `pid` leads when this process ends."""
        self._tell(f"watch {pid} {started}")

    def forget(self, pid: int) -> None:
        """No longer watch `pid`."""
        self._tell(f"forget {pid}")

    def remove(self, folder: Path) -> None:
        """Delete `folder` when this process ends."""
        self._tell(f"remove {folder}")

    def close(self) -> None:
        """Let it clean up and end; return when it has."""
        self._child.communicate()

    def _tell(self, line: str) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # someone ended it; its owner must still be able to end the servers
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()


class LocalProcess:
    """A server that was started here: it leads a process group of its own and writes to one log file.

    `probe` says whether the server answers real requests. The watchdog ends the server with its starter.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        probe: Callable[[], bool],
        watchdog: Watchdog,
        *,
        start_deadline_s: float,
        stop_deadline_s: float,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = list(command)
        self._probe = probe
        self._watchdog = watchdog
        self._start_deadline_s = start_deadline_s
        self._stop_deadline_s = stop_deadline_s
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.started = ""

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        if self._child is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process exists (a paused one does)."""
        return self._child is not None and self._child.poll() is None

    def launch(self) -> None:
        """Start the process and return at once; `wait_ready` waits until it serves."""
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log_path.parent,
                start_new_session=True,
            )
        self.started = started_at(self._child.pid) or ""
        self._watchdog.watch(self._child.pid, self.started)

    def wait_ready(self) -> None:
        """Wait until the server answers. Raises PortTaken or StartFailed, each with the end of the log."""
        deadline = time.monotonic() + self._start_deadline_s
        while not self._probe():
            if not self.running:
                log = self._log_since_launch()
                failure = PortTaken if _PORT_TAKEN_MARK in log.lower() else StartFailed
                raise failure(self._describe("ended while starting", log))
            if time.monotonic() > deadline:
                took = f"was not ready after {self._start_deadline_s:.0f} s"
                raise StartFailed(self._describe(took, self._log_since_launch()))
            time.sleep(_POLL_S)

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM, also if paused) without waiting."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL if it is still there after its deadline. Returns when it is gone."""
        self.terminate()
        if self._child is not None:
            try:
                self._child.wait(self._stop_deadline_s)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """End the process by SIGKILL. Returns when it is gone."""
        self._signal(signal.SIGKILL)
        self._reap()

    def restart(self) -> None:
        """Stop the process if it runs and start it again on the same port and data; returns when it serves."""
        self.stop()
        self.launch()
        self.wait_ready()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            signal_group(self.pid, number)

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._watchdog.forget(self._child.pid)

    def _log_since_launch(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _describe(self, what: str, log: str) -> str:
        tail = "\n  ".join(log.strip().splitlines()[-_LOG_LINES:])
        return f"{self.name} {what}; the end of its log ({self.log_path}):\n  {tail}"
