"""Programs under measurement: started, awaited with the CPU time that they took, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamer.errors import StreamerError
from streamer.machine.kernel import end_with_parent

_POLL_S = 0.01
_LAST_LINES = 15


class BenchError(StreamerError):
    """A program under measurement did not do its work: the figures would be worth nothing."""


class Program:
    """A subprocess whose output goes to a file. A context manager: what still runs at its end is killed."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.started = time.monotonic()
        self.cpu_s = 0.0
        self.peak_mb = 0.0
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(environment or {}),
                preexec_fn=end_with_parent,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_s = usage.ru_utime + usage.ru_stime
                self.peak_mb = usage.ru_maxrss / 1000  # of the largest process
        return self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return None if self.runs else self._process.returncode

    def finish(self, timeout_s: float) -> None:
        """Wait for its end; `cpu_s` is then its CPU time with that of the children it waited for, `peak_mb` the largest
        memory of one of them.

        Raises BenchError when it fails or is not done in time.
        """
        deadline = time.monotonic() + timeout_s
        while self.runs:
            if time.monotonic() > deadline:
                self.kill()
                raise BenchError(f"{self._name} was not done within {timeout_s:.0f} s:\n{self.last_lines()}")
            time.sleep(_POLL_S)
        if self._process.returncode:
            raise BenchError(f"{self._name} ended with {self._process.returncode}:\n{self.last_lines()}")

    def terminate(self, timeout_s: float) -> None:
        """Ask it to stop, and wait for its end."""
        if self.runs:
            self._process.send_signal(signal.SIGTERM)
        self.finish(timeout_s)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        while self.runs:
            self._process.kill()
            time.sleep(_POLL_S)

    def last_lines(self) -> str:
        """The end of what it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])

    @property
    def _name(self) -> str:
        return " ".join(map(str, self._process.args)) if isinstance(self._process.args, list) else self.log.stem
