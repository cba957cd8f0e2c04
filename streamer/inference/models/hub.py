"""Models of the hub: found in its local cache, and fetched into it once on a machine, before any worker starts.

The hub's own client runs in a process of its own (`hub_client`): a driver stays small, and a client that hangs can be
ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from streamer.errors import DependencyError, ModelError
from streamer.extras import require
from streamer.inference.models import kept

SILENT_S: Final = 60.0
"""How long the hub may send nothing. Its client waits for ever for some of the answers."""
_COMPLETE: Final = "complete"

log = logging.getLogger(__name__)


def snapshot(repository: str, revision: str) -> Path:
    """Where the hub's client keeps the files of a commit."""
    return Path(_cache(), f"models--{repository.replace('/', '--')}", "snapshots", revision)


def _cache() -> str:
    """As the hub's client finds it, which is not installed everywhere and takes long to import."""
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    old = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return os.path.expandvars(os.path.expanduser(os.environ.get("HF_HUB_CACHE", old)))  # noqa: PTH111


def cached(repository: str, revision: str) -> Path:
    """The files of a commit in the local cache. Raises `ModelError` where they are not there."""
    path = snapshot(repository, revision)
    if not path.is_dir():
        raise ModelError(
            f"model {repository}@{revision} is not in the local hub cache ({path.parents[2]}): set allow_downloads = "
            f"true for its pipeline (--allow-downloads), or fetch it with `hf download {repository} --revision "
            f"{revision}`"
        )
    return path


def fetch(repository: str, revision: str, tell: Callable[[int, int], None]) -> None:
    """Have the files of a commit in the local cache, only those that a model is loaded from. What was fetched whole
    before is not asked for again. `tell` hears how many bytes there are, of how many.

    Raises `MissingExtraError` without the hub's client, `ModelError` for what the hub refuses, and `DependencyError`
    for a hub or a disk that a later start may find well again.
    """
    require(f"a download of {repository}", "inference")
    path = snapshot(repository, revision)
    note = kept.root() / "fetched" / hashlib.sha256(str(path).encode()).hexdigest()
    if _is_whole(path, note):
        return
    with _alone(note, f"{repository}@{revision}"):
        if _is_whole(path, note):  # by another process, meanwhile
            return
        _run_client(repository, revision, tell)
        if not path.is_dir():
            raise ModelError(f"model {repository}@{revision}: the hub answered with another commit than was asked for")
        try:
            note.write_text(_COMPLETE)
        except OSError as error:  # then the hub is asked again at the next start
            log.debug("the download of %s is not remembered: %s", repository, error.strerror)


def _is_whole(path: Path, note: Path) -> bool:
    """A download that was cut short leaves a directory, too; and a cache may be cleaned."""
    try:
        noted = note.read_text() == _COMPLETE
    except OSError:
        return False
    return noted and path.is_dir() and all(file.exists() for file in path.rglob("*"))


@contextmanager
def _alone(note: Path, what: str) -> Iterator[None]:
    """One process of this machine at a time; without a lock where there can't be one."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        file = note.open("a")
    except OSError:
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process downloads %s: waiting for it", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_client(repository: str, revision: str, tell: Callable[[int, int], None]) -> None:
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    # It ends when its standard input does, and that ends with us. What it writes to standard error may hold anything.
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer.inference.models.hub_client", repository, revision],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process.stdout, said.put), name="hub-client-reader", daemon=True)
    reader.start()
    end: dict[str, Any] = {"failure": "the hub's client was killed", "again": True}
    try:
        while (message := said.get(timeout=_silent_s())) is not None:
            if "done" in message:
                tell(message["done"], message["total"])
            else:
                end = message
    except queue.Empty:
        end = {"failure": f"the hub has sent nothing for {_silent_s():g} s", "again": True}
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        reader.join()
        process.stdout.close()
    if failure := end["failure"]:
        kind = DependencyError if end["again"] else ModelError
        raise kind(f"model {repository}@{revision} can't be downloaded: {failure}")


def _silent_s() -> float:
    try:
        return float(os.environ["HF_HUB_DOWNLOAD_TIMEOUT"])
    except (KeyError, ValueError):
        return SILENT_S


def _read(stream: IO[bytes], put: Callable[[dict[str, Any] | None], None]) -> None:
    """What the client says, line by line; None at its end."""
    for line in stream:
        try:
            message = json.loads(line)
        except ValueError:  # of a library that prints
            continue
        if isinstance(message, dict):
            put(message)
    put(None)
