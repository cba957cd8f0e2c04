"""Slots: the stable identity of one replica, so that a restart finds its partitions and ends its open transaction."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from streamer.errors import ExitCode, StreamerError

MOST_SLOTS = 1000


class SlotTakenError(StreamerError):
    """Another process on this host holds the slot that was asked for."""

    exit_code = ExitCode.FENCED


class Slot:
    """A held slot; `kill -9` frees it, since the lock is the kernel's."""

    def __init__(self, name: str, lock: IO[str] | None) -> None:
        self.name = name
        self._lock = lock

    def release(self) -> None:
        """Give the slot back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def take_slot(group: str, wanted: str = "", environ: Mapping[str, str] = os.environ) -> Slot:
    """The wanted slot; or a StatefulSet's ordinal name; or `{hostname}-{n}`, n the lowest that nobody here holds.

    Raises SlotTakenError when another process on this host holds the wanted one.
    """
    hostname = socket.gethostname()
    if not wanted and "KUBERNETES_SERVICE_HOST" in environ and re.search(r"-\d+$", hostname):
        wanted = hostname
    directory = _directory(environ)
    if wanted:
        lock = _try_lock(directory / f"{group}.{wanted}.lock")
        if lock is None:
            raise SlotTakenError(
                f"slot {wanted} of group {group} is held by another process on this host; stop that one, or give this "
                "one another slot"
            )
        return Slot(wanted, lock)
    for n in range(MOST_SLOTS):
        lock = _try_lock(directory / f"{group}.{n}.lock")
        if lock is not None:
            return Slot(f"{hostname}-{n}", lock)
    raise SlotTakenError(f"{MOST_SLOTS} processes of group {group} run on this host already; set slot by hand")


def _directory(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_RUNTIME_DIR") or os.path.join(tempfile.gettempdir(), f"streamer-{os.getuid()}")
    directory = Path(base) / "streamer-slots"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _try_lock(path: Path) -> IO[str] | None:
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
