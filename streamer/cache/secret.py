"""The fleet's secret, by which its processes know one another's values in Redis: a file that all of them can read."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from streamer.errors import ConfigurationError

NO_SECRET: Final = "none"
MIN_BYTES: Final = 32
MAX_BYTES: Final = 4096
_FIX: Final = (
    "name a file of 32 or more characters as cache.key_file (`openssl rand -hex 32` makes one), "
    'or write key_file = "none"'
)

_log = logging.getLogger(__name__)


class NoKeyError(ConfigurationError):
    """Nobody named a file, and the default one can't be had here: answers are not shared."""


def secret_of(key_file: str) -> bytes:
    """The secret that `cache.key_file` names, 64 bytes; b"" for `none`.

    A file that is not there is made, with mode 0600: all or nothing, so that of several processes that start at once
    one makes it and all read the same. Raises ConfigurationError, which names the file and never what is in it;
    NoKeyError of the default file where it can be neither made nor read: a home that is read-only, for one.
    """
    if key_file == NO_SECRET:
        return b""
    path = key_path(key_file)
    try:
        if not path.exists():
            _make(path)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1).strip()
    except OSError as error:
        kind = ConfigurationError if key_file else NoKeyError
        raise kind(f"cache.key_file: {path}: {error.strerror or type(error).__name__}; {_FIX}") from None
    if not MIN_BYTES <= len(content) <= MAX_BYTES:
        size = "too short" if len(content) < MIN_BYTES else "too long"
        raise ConfigurationError(f"cache.key_file: {path} is {size} for a key; {_FIX}")
    return hashlib.blake2b(content, person=b"streamer cache").digest()


def key_path(key_file: str) -> Path:
    """Where the secret lies: `$XDG_STATE_HOME/streamer/cache.key`, by default below ~/.local/state, unless the
    configuration names another file. Raises ConfigurationError where there is no home directory, NoKeyError for the
    default."""
    try:
        if key_file:
            return Path(key_file).expanduser()
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "streamer" / "cache.key"
    except RuntimeError:
        kind = ConfigurationError if key_file else NoKeyError
        raise kind(f"cache.key_file: there is no home directory for the key; {_FIX}") from None


def look_at(key_file: str) -> tuple[str, bool, bool]:
    """What a start would find wrong with the file, "" for nothing; whether that would end it; and whether other users
    may read the file. Makes none."""
    if key_file == NO_SECRET:
        return "", False, False
    try:
        path = key_path(key_file)
        if path.exists():
            secret_of(key_file)
            return "", False, bool(path.stat().st_mode & stat.S_IROTH)
    except ConfigurationError as error:
        return str(error), not isinstance(error, NoKeyError), False
    except OSError as error:
        return f"cache.key_file: {path}: {error.strerror or type(error).__name__}; {_FIX}", bool(key_file), False
    home = next(parent for parent in path.absolute().parents if parent.exists())
    if home.is_dir() and os.access(home, os.W_OK | os.X_OK):
        return "", False, False
    return f"cache.key_file: {path} is not there and can't be created; {_FIX}", bool(key_file), False


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(MIN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its key holds
            path.hardlink_to(draft)
            _log.info(
                "created a key for the shared cache; replicas on other hosts need a copy of the file",
                extra={"data": {"file": str(path)}},
            )
    finally:
        draft.unlink()
