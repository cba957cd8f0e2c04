"""`streamer run` on a terminal: what people see of it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from select import select

import pytest

from tests.acceptance.harness import ROOT, Lab, event
from tests.conftest import Kafka
from tests.unit.test_log_pipe import screen

LINE = re.compile(r"(\w+) +\d\d:\d\d:\d\d (info|warning|error) +\S.*")


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


class Terminal:
    """A program on a terminal of its own, and what it has written there."""

    def __init__(self, *command: str, columns: int = 200) -> None:
        self.written = b""
        self._descriptor, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name != "CI"}
        # Not by pty.fork, whose child runs Python in a copy of a process with many threads.
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, "TERM": "xterm"},
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)

    def read(self, until: str = "", timeout_s: float = 120) -> str:
        """What was written, once this is in it; all to the end without `until`."""
        deadline = time.monotonic() + timeout_s
        while not until or until not in self.text:
            assert time.monotonic() < deadline, self.text[-3000:]
            if not select([self._descriptor], [], [], 0.5)[0]:
                continue
            try:
                chunk = os.read(self._descriptor, 65_536)
            except OSError:  # nobody has it open any more
                chunk = b""
            if not chunk:
                assert not until, self.text[-3000:]
                break
            self.written += chunk
        return self.text

    @property
    def text(self) -> str:
        return self.written.decode(errors="replace")

    def end(self) -> int:
        """Press Ctrl-C, and read on to the end; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        self.read()
        return self.exit_code()

    def exit_code(self) -> int:
        """Of the program, once it has ended."""
        os.close(self._descriptor)
        return self._process.wait(30)


def test_several_pipelines_on_a_terminal(lab: Lab) -> None:
    """Each line names its pipeline in the first column and is whole; below them one live line has the sum of all, and
    is gone at the end. Each pipeline's totals are right."""
    lab.topics(1)
    lab.telemetry["log_format"] = "auto"
    lab.produce([*(event(number) for number in range(300)), *[event(0)._replace(value=b"no event")] * 2])
    config = lab.write_config(
        {
            "one": lab.pipeline("builtin:null"),
            "other": lab.pipeline("builtin:null", group=f"{lab.group}.other"),
        }
    )
    terminal = Terminal(sys.executable, "-m", "streamer", "run", "--config", str(config))
    terminal.read("2 of 2 pipelines running")
    terminal.read("· 4 dead letters")
    assert terminal.end() == 0
    *lines, last = screen(terminal.written)
    assert last == ""
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    names = [match[1] for match in found if match]
    assert names[0] == names[-1] == "supervisor" and set(names) == {"supervisor", "one", "other"}
    ends = [line for line in lines if "300 results, 2 dead letters (decode.json 2), 0 skipped" in line]
    assert len(ends) == 2 and not any("results/s ·" in line for line in lines)
    assert len(lines) <= 3 + 2 * 7, lines
    assert terminal.text.count("\x1e") == 0


@pytest.mark.parametrize("why", ["CI", "json"])
def test_no_live_line_where_nobody_wants_one(lab: Lab, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is a CI's log, or JSON lines that were asked for."""
    lab.topics(1)
    lab.telemetry["log_format"] = "json" if why == "json" else "auto"
    lab.produce([event(1)])
    command = [sys.executable, "-m", "streamer", "run", "--until-end", "--config"]
    command.append(str(lab.config("builtin:null")))
    terminal = Terminal("env", *(["CI=true"] if why == "CI" else []), *command)
    text = terminal.read()
    assert terminal.exit_code() == 0, text
    assert "\x1b" not in text
    assert ('"message":"ended"' if why == "json" else "took 1 record: 1 result, ") in text
