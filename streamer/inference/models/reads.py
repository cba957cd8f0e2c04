"""Which files this process opens for reading, as Python tells its auditors, and which modules it imports.

What a library reads by itself, below Python, is not seen. https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

_WRITES = os.O_WRONLY | os.O_RDWR


class Reads:
    """Records while it is entered. `files` are what was read and not written meanwhile, by absolute path."""

    def __init__(self) -> None:
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._known = frozenset(sys.modules)

    @property
    def packages(self) -> set[str]:
        """The top-level names of the modules that were imported since this was made."""
        return {name.partition(".")[0] for name in list(sys.modules) if name not in self._known}

    @property
    def files(self) -> list[str]:
        """In the order of the alphabet."""
        return sorted(self._read - self._written)

    @property
    def written(self) -> set[str]:
        """What was opened for writing, or is the new name of a file that was renamed."""
        return self._written

    def __enter__(self) -> Self:
        global _recorder, _hooked
        if not _hooked:
            sys.addaudithook(_hear)  # for good: there is no way to remove one
            _hooked = True
        _recorder = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        global _recorder
        _recorder = None

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One event; never raises, or what the process does would fail by it."""
        if event == "open":
            path, _, flags = arguments
            into = self._written if isinstance(flags, int) and flags & _WRITES else self._read
        elif event == "os.rename":
            path, into = arguments[1], self._written
        else:
            return
        if isinstance(path, str | bytes | os.PathLike):
            with suppress(OSError):  # the working directory may be gone
                into.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  # Path.absolute leaves `..` in


_recorder: Reads | None = None
_hooked = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorder is not None:
        _recorder.hear(event, arguments)
