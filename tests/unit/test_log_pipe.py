"""Lines into a real pipe that nobody reads, and then somebody does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from streamer.telemetry.log_pipe import MOST_LINES, LogPipe, PipeStream, read_lines

LINES = 10_000


def read_all(descriptor: int) -> bytes:
    content = b""
    while chunk := os.read(descriptor, 65_536):
        content += chunk
    os.close(descriptor)
    return content


@pytest.mark.case(78)
def test_a_full_pipe_holds_nobody_up() -> None:
    """All puts return at once; the newest lines are kept, and how many are gone stands where they would be."""
    reading, writing = os.pipe()
    pipe = LogPipe(writing, lambda count: b"dropped %d\n" % count, lambda: None)
    for number in range(LINES):
        pipe.put(b"%06d %s\n" % (number, b"x" * 100))
    assert not pipe.flush(0.05)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(reading)))
    reader.start()
    assert pipe.flush(30)
    os.close(writing)
    reader.join(30)
    lines = got[0].splitlines()
    gaps = [line for line in lines if line.startswith(b"dropped")]
    assert len(lines) - len(gaps) + sum(int(line.split()[1]) for line in gaps) == LINES
    assert MOST_LINES <= len(lines) < LINES
    assert lines[-1].startswith(b"%06d" % (LINES - 1))


def test_a_descriptor_that_does_not_block() -> None:
    """Who shares a terminal may have made it so: a line still comes whole."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    pipe = LogPipe(writing, lambda count: b"", lambda: None)
    line = b"x" * 300_000 + b"\n"
    pipe.put(line)
    time.sleep(0.05)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(reading)))
    reader.start()
    assert pipe.flush(30)
    os.close(writing)
    reader.join(30)
    assert got == [line]


def test_a_reader_that_is_gone() -> None:
    """Nobody will read it: lines are lost, and nothing else."""
    reading, writing = os.pipe()
    os.close(reading)
    pipe = LogPipe(writing, lambda count: b"", lambda: None)
    stream = PipeStream(pipe)
    assert (stream.write(b"one\n"), stream.fileno(), stream.isatty()) == (4, writing, False)
    assert pipe.flush(30)
    os.close(writing)


def test_lines_of_other_processes() -> None:
    """Each is handed over, the last one without its end too; one without end comes in parts."""
    reading, writing = os.pipe()
    lines: list[str] = []
    script = "import os; os.write(2, b'one\\n\\ntw'); os.write(2, b'o\\n' + b'x' * 20_000 + b'\\n\\xff last')"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=writing)
    os.close(writing)
    read_lines(reading, lines.append)
    assert process.wait(30) == 0
    assert lines[:2] == ["one", "two"] and lines[-1] == "\ufffd last"
    assert "".join(lines[2:-1]) == "x" * 20_000


@pytest.mark.case(78)
def test_an_end_with_a_full_pipe() -> None:
    """`last_words` and an exit of the interpreter wait no longer than they say, and a thread's exception or a plain
    print go the same way as the log."""
    script = (
        "import logging, sys, threading; from streamer.telemetry.logs import configure, last_words\n"
        "configure('json', 'info', pipelines=['p'])\n"
        "log = logging.getLogger('streamer.test')\n"
        "for n in range(20_000): print('y' * 100, file=sys.stderr)\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "log.error('bye'); last_words(0.5); print('out', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(60) == 0
        assert process.stdout and process.stdout.read() == b"out\n"
