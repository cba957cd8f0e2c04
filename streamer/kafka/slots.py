"""Slots: the stable identity of one replica, so that a restart finds its partitions and ends its open transaction.

Who holds a slot on this host is known by locks in directories of the user's, wherever the environment points: two
members with different environments must not choose the same. There are two, as each can be taken away: a service may
have a /tmp of its own, and what a user has in /dev/shm may go when the user logs out.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from streamer.core.members import slot_of
from streamer.errors import ConfigurationError, ExitCode, StreamerError

MOST_SLOTS: Final = 1000
PLACES: Final = ("/tmp", "/dev/shm")  # all that can be written; a container that is read-only has the second

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class SlotTakenError(StreamerError):
    """Another process on this host holds the slot that was asked for."""

    exit_code = ExitCode.FENCED


class Slot:
    """A held slot; `kill -9` frees it, since the lock is the kernel's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._locks: list[int] = []

    def hold(self, lock: int) -> None:
        """Keep a lock's descriptor until the release."""
        self._locks.append(lock)

    def release(self) -> None:
        """Give the slot back."""
        while self._locks:
            os.close(self._locks.pop())


def take_slot(
    group: str,
    wanted: str = "",
    environ: Mapping[str, str] = os.environ,
    places: Sequence[str] = PLACES,
    member: int = 0,
) -> Slot:
    """The wanted slot; or a StatefulSet's ordinal name; or `{hostname}-{n}`, n the lowest that nobody here holds. The
    first two are those of a replica, whose further members, by number, have slots after it.

    Raises SlotTakenError when another process on this host holds the wanted one, ConfigurationError when there is no
    place for locks that is this user's alone.
    """
    hostname = socket.gethostname()
    if not wanted and "KUBERNETES_SERVICE_HOST" in environ and re.search(r"-\d+$", hostname):
        wanted = hostname
    directories = _directories(places)
    if wanted:
        wanted = slot_of(wanted, member)
        slot = _try_slot(directories, group, wanted)
        if slot is None:
            raise SlotTakenError(
                f"slot {wanted} of group {group} is held by another process on this host; stop that one, or give this "
                "one another slot"
            )
        return slot
    for n in range(MOST_SLOTS):
        slot = _try_slot(directories, group, f"{hostname}-{n}")
        if slot is not None:
            return slot
    raise SlotTakenError(f"{MOST_SLOTS} processes of group {group} run on this host already; set slot by hand")


def _directories(places: Sequence[str]) -> list[str]:
    """The user's directories for locks, made where they are not there."""
    found = []
    for place in places:
        path = os.path.join(place, f"streamer-slots-{os.geteuid()}")
        with suppress(OSError):  # it is there, or can't be made
            Path(path).mkdir(mode=0o700)
        if os.path.lexists(path):
            found.append(path)
    if not found:
        raise ConfigurationError(
            f"no place for the lock of this replica's slot: none of {', '.join(places)} can be written; give this "
            "process one of them, e.g. as an empty volume"
        )
    return found


def _judge(path: str, directory: int) -> None:
    """Raise ConfigurationError unless the directory is this user's alone: who else may write there takes our slots."""
    status = os.fstat(directory)
    if status.st_uid != os.geteuid():
        raise _unfit(path, f"it belongs to another user ({status.st_uid})")
    if status.st_mode & 0o077:
        raise _unfit(path, f"its mode is {stat.S_IMODE(status.st_mode):04o}", f"run `chmod 700 {path}`")


def _try_slot(directories: list[str], group: str, name: str) -> Slot | None:
    """The slot, or None while another process holds it."""
    slot = Slot(name)
    for directory in directories:
        try:
            lock = _try_lock(directory, group, name)
        except ConfigurationError:
            slot.release()
            raise
        if lock is None:
            slot.release()
            return None
        slot.hold(lock)
    return slot


def _try_lock(path: str, group: str, slot: str) -> int | None:
    """A lock, or None while another process has it. Its file is named by a digest: groups may be called anything, and
    `a` with slot `b.c` is not `a.b` with slot `c`."""
    digest = hashlib.sha256(f"{group}\0{slot}".encode(errors="surrogateescape")).hexdigest()[:32]
    name = f"{re.sub(r'[^A-Za-z0-9_-]', '_', f'{group}.{slot}')[:100]}.{digest}.lock"
    try:
        directory = os.open(path, _DIRECTORY)
    except OSError as error:
        raise _unfit(path, _what(error)) from None
    try:
        _judge(path, directory)
        lock = os.open(name, _LOCK, 0o600, dir_fd=directory)
    except OSError as error:
        raise _unfit(f"{path}/{name}", _what(error)) from None
    finally:
        os.close(directory)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError as error:
        os.close(lock)
        raise _unfit(f"{path}/{name}", _what(error)) from None
    return lock


def _what(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _unfit(path: str, what: str, fix: str = "") -> ConfigurationError:
    fix = fix or f"look at what it is, then remove it: `streamer` creates it, with mode 0700, for user {os.geteuid()}"
    return ConfigurationError(f"{path} can't keep the lock of this replica's slot: {what}; {fix}")
