"""Model references: where a model's files are, without importing anything of the model.

`directory` · `package:NAME/SUBDIR` · `org/name@REVISION` · `python:MODULE:CLASS` · `builtin:null`.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ModelError
from streamer.inference.formats import ADAPTER
from streamer.inference.safety import SAFE_PATTERNS
from streamer.inference.sentence_files import module_folders

_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
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
    path = _expanded(reference)
    if not path.is_dir():
        raise ModelError(f"model {reference!r} is no directory{_seen(reference, path)}")
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


def _expanded(reference: str) -> Path:
    try:
        return Path(reference).expanduser()
    except RuntimeError:  # of `~name` without such a user
        raise ModelError(f"model {reference!r}: there is no such user on this machine") from None


def _seen(reference: str, path: Path) -> str:
    """What is there instead of a directory, for the end of the message."""
    if path.is_file():
        return f" but a file: give the directory that holds it, {path.parent}"
    if reference != reference.strip() and _expanded(reference.strip()).is_dir():
        return ": it begins or ends with a space"
    try:
        alike = [one for one in path.parent.iterdir() if one.name.lower() == path.name.lower() and one.is_dir()]
    except OSError:
        alike = []
    if alike:
        return f": did you mean {path.parent / alike[0].name}?"
    if _REPOSITORY.fullmatch(reference):
        return f" in {Path.cwd()}; a model of the hub is named with its commit: {reference}@REVISION"
    where = "here" if path.is_absolute() else f"in {Path.cwd()}"
    return f" {where}; a model is {_FORMS}"


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
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        waiting, fetched, path = {""}, set[str](), ""
        while waiting:  # what is fetched may name more folders
            for folder in sorted(waiting):
                inside = f"{folder}/" if folder else ""
                path = snapshot_download(
                    repository,
                    revision=revision,
                    local_files_only=not downloads,
                    allow_patterns=[inside + pattern for pattern in (*SAFE_PATTERNS, ADAPTER)],
                    ignore_patterns=[inside + "*/*"],  # a star crosses folders there
                )
            fetched |= waiting
            waiting = set(module_folders(Path(path))) - fetched
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        fetch = f"`hf download {repository} --revision {revision}`"
        mend = f"fetch it with {fetch}"
        if downloads:
            off = constants.HF_HUB_OFFLINE
            mend = "HF_HUB_OFFLINE forbids to ask for it" if off else f"the hub can't be reached; fetch it with {fetch}"
        raise ModelError(
            f"model {repository}@{revision} is not in the local hub cache ({constants.HF_HUB_CACHE}): {mend}"
        ) from None
    except HfHubHTTPError as error:
        raise ModelError(f"model {repository}@{revision} can't be downloaded: {error}") from None
    return Located(Path(path).resolve(), repository)
