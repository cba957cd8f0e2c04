"""Modules as their sources are now.

Python takes compiled code for that of any source of the same size and the same second: its file keeps no more of the
source (PEP 552). A class that was changed right after a start, or copied with its old times, would be served as it was
before, under the revision of what it is now.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.abc import PathEntryFinder
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from streamer.inference.models.class_identity import is_installed


class _Loader(SourceFileLoader):
    """Distrusts compiled code that is older than the last change of its source, whatever time the source claims."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Raises OSError, upon which Python compiles the source and keeps nothing."""
        compiled = cache_from_source(path)
        if os.path.exists(compiled) and os.stat(path).st_ctime_ns >= os.stat(compiled).st_ctime_ns:  # noqa: PTH110, PTH116
            raise OSError(f"{compiled} may be of an older {path}")
        return super().path_stats(path)


_find = FileFinder.path_hook(
    (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES)
)


def import_fresh() -> None:
    """From now on modules from elsewhere than where packages are installed are imported as their sources are."""
    if _hook not in sys.path_hooks:
        sys.path_hooks.insert(0, _hook)
        for folder in list(sys.path_importer_cache):
            if not is_installed(Path(folder)):
                del sys.path_importer_cache[folder]


def _hook(folder: str) -> PathEntryFinder:
    if is_installed(Path(folder)):
        raise ImportError("left to Python's own hook", path=folder)
    return _find(folder)
