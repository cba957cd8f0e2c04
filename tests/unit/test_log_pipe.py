"""Lines into a real pipe that nobody reads, and then somebody does."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress

import pytest

from streamer.telemetry.log_pipe import MOST_LINES, LogPipe, PipeStream, read_lines
from tests.waiting import wait_for

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
    assert pipe.lost == 1
    os.close(writing)


def test_a_full_disk_counts_until_it_has_room() -> None:
    """Each line that the disk had no room for counts, and a line says how many once there is room."""
    full = os.open("/dev/full", os.O_WRONLY)
    pipe = LogPipe(full, lambda count: b"dropped %d\n" % count, lambda: None)
    for _ in range(3):
        pipe.put(b"a line\n")
    assert pipe.flush(30)
    assert pipe.lost == 3
    reading, writing = os.pipe()
    os.dup2(writing, full)
    os.close(writing)
    pipe.put(b"there is room\n")
    assert pipe.flush(30)
    os.close(full)
    assert read_all(reading) == b"there is room\ndropped 3\n"
    assert pipe.lost == 3


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


def screen(written: bytes) -> list[str]:
    """The lines that stand on a terminal after this was written to it: those of a program that erases whole lines and
    never moves up."""
    lines = [""]
    for part in re.split(rb"(\r\x1b\[2K|\r?\n)", written):
        if part.startswith(b"\r\x1b"):
            lines[-1] = ""
        elif part in (b"\r\n", b"\n"):
            lines.append("")
        else:
            lines[-1] += part.decode()
    return lines


def test_a_live_line_never_mixes_with_others() -> None:
    """It stands below all lines of the log, which are whole and in order, is cut to the terminal's width, and goes."""
    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    pipe = LogPipe(writing, lambda count: b"dropped\n", lambda: None)
    got: list[bytes] = []

    def read() -> None:
        with suppress(OSError):
            while chunk := os.read(reading, 65_536):
                got.append(chunk)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    log = [f"line {number} {'x' * (number % 60)}" for number in range(300)]
    for number, line in enumerate(log):
        pipe.put(f"{line}\n".encode())
        pipe.show(f"live {number}")
        if number == 150:
            pipe.put(b"half a line,")
            pipe.show("live between")
            pipe.put(b" and its end\n")
        if number % 10 == 0:
            assert pipe.flush(30)
    assert pipe.flush(30)
    pipe.show("the last " + "é" * 100)
    assert pipe.flush(30)
    wait_for(lambda: "…" in screen(b"".join(got))[-1])
    shown = screen(b"".join(got))
    assert shown[:-1] == [*log[:151], "half a line, and its end", *log[151:]]
    assert shown[-1] == "the last " + "é" * 29 + "…"
    assert b"live 1\r" in b"".join(got) and b"live between" in b"".join(got)
    pipe.show("")
    assert pipe.flush(30)
    wait_for(lambda: screen(b"".join(got))[-1] == "")
    os.close(writing)
