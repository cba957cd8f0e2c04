"""The program that fetches a commit of a model with the hub's own client.

It tells how far it is, and how it ended, as JSON lines on standard output, and ends when its standard input does. The
token is where the client looks for it (HF_TOKEN, the file that `hf auth login` writes); it is in no message.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from streamer.errors import ModelError
from streamer.inference.models.formats import ADAPTER
from streamer.inference.models.safety import SAFE_PATTERNS
from streamer.inference.models.sentence_files import module_folders

_TELL_EVERY_S: Final = 0.2
_BUSY: Final = (408, 425, 429)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Tell = Callable[[dict[str, Any]], None]


def download(repository: str, revision: str, progress: type[Any] | None = None) -> Path:
    """The directory with all files that a model is loaded from; nothing else is fetched. Raises what the client
    raises."""
    waiting, fetched, path = {""}, set[str](), ""
    while waiting:  # what is fetched may name more folders
        for folder in sorted(waiting):
            inside = f"{folder}/" if folder else ""
            path = huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[inside + pattern for pattern in (*SAFE_PATTERNS, ADAPTER)],
                ignore_patterns=[inside + "*/*"],  # a star crosses folders there
                tqdm_class=progress,
            )
        fetched |= waiting
        waiting = set(module_folders(Path(path))) - fetched
    return Path(path)


def words(error: Exception, repository: str, revision: str) -> tuple[str, bool]:
    """Why it can't be downloaded, and how to fix it; and whether a later start may find it fixed."""
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    hub, copy = constants.ENDPOINT, f"`hf download {repository} --revision {revision} --local-dir DIR`"
    elsewhere = (
        f"set HF_ENDPOINT to a mirror that this machine reaches, or run {copy} on a machine that reaches it, copy DIR "
        "here, and name DIR as the model"
    )
    login = "set HF_TOKEN, or run `hf auth login`, with a token that may read it"
    match cause:
        case OfflineModeIsEnabled():
            return f"HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set and forbids it: unset it, or {elsewhere}", False
        case GatedRepoError():
            return f"it is gated: accept its terms at {hub}/{repository}, then {login}", False
        case RevisionNotFoundError():
            return f"{hub} has {repository}, but not that commit: copy the commit from its page", False
        case RepositoryNotFoundError():
            return (
                f"{hub} has no model {repository} that this machine may see: correct the name; for a private one, "
                f"{login}",
                False,
            )
        case HfHubHTTPError():
            status = cause.response.status_code
            if status in (401, 403):
                return f"{hub} lets nobody read it without a token that may ({status}): {login}", False
            return f"{hub} answered {status}", status >= 500 or status in _BUSY
        case httpx.HTTPError():  # of connections, proxies and timeouts
            return f"{hub} can't be reached ({type(cause).__name__}): {elsewhere}", True
        case ModelError():
            return str(cause), False
        case OSError() if cause.errno in _FULL:
            return f"no space is left for it in {constants.HF_HUB_CACHE}: free some, or set HF_HOME elsewhere", True
        case OSError():
            return f"{cause.filename or constants.HF_HUB_CACHE}: {cause.strerror or type(cause).__name__}", False
    return f"the hub's client raised {type(cause).__name__}", False


def main() -> None:
    """See the module."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    repository, revision = sys.argv[1:]
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # for libraries that print

    def tell(message: dict[str, Any]) -> None:
        output.write(f"{json.dumps(message)}\n")
        output.flush()

    failure, again = "", False
    try:
        download(repository, revision, _progress(tell))
    except Exception as error:
        failure, again = words(error, repository, revision)
    tell({"failure": failure, "again": again})


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _progress(tell: Tell) -> type[Any]:
    """What the client shows its progress on: one of bytes, others of files, which are not told."""
    lock = threading.Lock()
    told = 0.0

    class Told(tqdm):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            self._of_bytes, self._done = named.get("unit") == "B", 0
            super().__init__(*arguments, **named | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            nonlocal told
            with lock:
                self._done += int(n or 0)
                if self._of_bytes and time.monotonic() - told > _TELL_EVERY_S:
                    told = time.monotonic()
                    tell({"done": self._done, "total": max(self._done, int(self.total or 0))})

    return Told


if __name__ == "__main__":
    main()
