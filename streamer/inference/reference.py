"""Model references: where a model's files are, without importing anything of the model.

`directory` · `package:NAME/SUBDIR` · `org/name@REVISION` · `python:MODULE:CLASS` · `builtin:null`.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ModelError
from streamer.inference.safety import SAFE_PATTERNS
from streamer.inference.sentence_files import module_folders

_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORMS = "a directory, package:NAME/SUBDIR, org/name@REVISION, python:MODULE:CLASS or builtin:null"


@dataclass(frozen=True, slots=True)
class Located:
    """A directory of model files, and the name that results carry."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class PythonClass:
    """The operator's own class."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Null:
    """The model that does nothing."""


def resolve(reference: str, *, downloads: bool = False) -> Located | PythonClass | Null:
    """Find a model. `downloads` lets the hub be asked for what its local cache lacks. Raises `ModelError`."""
    scheme, _, rest = reference.partition(":")
    if scheme == "builtin":
        if rest != "null":
            raise ModelError(f"model {reference!r}: the only builtin model is builtin:null")
        return Null()
    if scheme == "python":
        module, _, name = rest.partition(":")
        if not module or not name.isidentifier():
            raise ModelError(f"model {reference!r} must have the form python:MODULE:CLASS")
        return PythonClass(module, name)
    if scheme == "package":
        return _package(reference, rest)
    if match := _HUB.fullmatch(reference):
        return _hub(match["repository"], match["revision"], downloads=downloads)
    path = Path(reference).expanduser()
    if not path.is_dir():
        raise ModelError(f"model {reference!r} is no directory here; a model is {_FORMS}")
    return Located(path.resolve(), path.resolve().name)


def may_be_files(reference: str) -> bool:
    """Whether it leads to a directory of files, as far as can be told without a hub's client, which takes long to
    import."""
    if _HUB.fullmatch(reference) and not Path(reference).is_dir():
        return True
    try:
        return isinstance(resolve(reference), Located)
    except ModelError:
        return False


def _package(reference: str, rest: str) -> Located:
    package, _, folder = rest.partition("/")
    if not package.isidentifier():
        raise ModelError(f"model {reference!r} must have the form package:NAME/SUBDIR, NAME a top-level module")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"model {reference!r}: Python package {package} is not installed here")
    root = Path(found.submodule_search_locations[0]).resolve()
    path = (root / folder).resolve()
    if not path.is_relative_to(root) or not path.is_dir():
        raise ModelError(f"model {reference!r}: package {package} has no directory {folder!r}")
    return Located(path, rest)


def _hub(repository: str, revision: str, *, downloads: bool) -> Located:
    if not _COMMIT.fullmatch(revision):
        raise ModelError(
            f"model {repository}@{revision}: the revision must be a full commit of 40 hex digits; "
            "a branch or tag can change under a running pipeline"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        waiting, fetched, path = {""}, set[str](), ""
        while waiting:  # what is fetched may name more folders
            for folder in sorted(waiting):
                inside = f"{folder}/" if folder else ""
                path = snapshot_download(
                    repository,
                    revision=revision,
                    local_files_only=not downloads,
                    allow_patterns=[inside + pattern for pattern in SAFE_PATTERNS],
                    ignore_patterns=[inside + "*/*"],  # a star crosses folders there
                )
            fetched |= waiting
            waiting = set(module_folders(Path(path))) - fetched
    except LocalEntryNotFoundError:
        mend = "the hub can't be reached" if downloads else "fetch it first, or switch downloads on"
        raise ModelError(f"model {repository}@{revision} is not in the local hub cache: {mend}") from None
    except HfHubHTTPError as error:
        raise ModelError(f"model {repository}@{revision} can't be downloaded: {error}") from None
    return Located(Path(path).resolve(), repository)
