"""Ends the processes of a stack whose starter is gone, even by `kill -9`.

A starter holds the write end of a pipe; this module, run as a program, holds the read end. When the starter ends in
whatever way, the pipe closes, and what is still watched is killed and its folders removed. It imports nothing of
streamer, so that it starts in some 20 ms.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def started_at(pid: int) -> str | None:
    """When process `pid` started, as a text that tells it from a later one of the same number; None if ended."""
    try:
        # The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        listed = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return listed.stdout.strip() or None
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else start_ticks


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group that `pid` leads, if it is still there."""
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def remove_folders(folders: Iterable[Path]) -> None:
    """Delete the folders with all that is in them, and the folder that held them if it is empty then."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()


def main() -> None:
    """Read `watch PID STARTED`, `forget PID` and `remove FOLDER` lines until the pipe closes, then clean up."""
    watched: dict[int, str] = {}
    folders: list[str] = []
    for line in sys.stdin:
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "watch":
            pid, _, started = rest.partition(" ")
            watched[int(pid)] = started
        elif verb == "forget":
            watched.pop(int(rest), None)
        elif verb == "remove":
            folders.append(rest)
    alive = [pid for pid, started in watched.items() if started_at(pid) == started]
    for pid in alive:
        signal_group(pid, signal.SIGKILL)
    while any(started_at(pid) == watched[pid] for pid in alive):
        time.sleep(0.01)
    remove_folders([Path(folder) for folder in folders])


if __name__ == "__main__":
    main()
