"""Model references: where a model's files are, without importing anything of the model.

`directory` · `package:NAME/SUBDIR` · `org/name@REVISION` · `python:MODULE:CLASS` · `http://HOST:PORT/v1` ·
`builtin:null`.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import ModelError
from streamer.extras import advice
from streamer.inference.models import hub

if TYPE_CHECKING:
    from streamer.inference.models.adapter import Adapter

_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_URL = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<rest>.*)")
_PAGE = re.compile(r"[^/@]+/(?P<repository>[\w.-]+/[\w.-]+)(/(tree|commit)/(?P<revision>[0-9a-f]{40}))?/?")
_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+-]+):[^/\\]")
_FORMS = "a directory, package:NAME/SUBDIR, org/name@REVISION, python:MODULE:CLASS or builtin:null"
_COMMIT_IS = "REVISION is a commit of 40 hex digits, which the model's page shows in its history"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".onnx", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True)
class Located:
    """A directory of model files, the name that results carry, and the adapter that changes the model."""

    path: Path
    name: str
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class PythonClass:
    """The operator's own class."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Null:
    """The model that does nothing."""


@dataclass(frozen=True, slots=True)
class ServedModelUrl:
    """A model that another program serves, by its URL without a slash at its end."""

    url: str


@dataclass(frozen=True, slots=True)
class HubModel:
    """A commit of a model of the hub, whether it is in the local cache or not."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def parse(reference: str) -> Located | PythonClass | Null | ServedModelUrl | HubModel:
    """What a reference names. Looks for directories, packages and modules, imports none, and asks no hub. Raises
    `ModelError` that says the form which works."""
    scheme, _, rest = reference.partition(":")
    if scheme == "builtin":
        if rest != "null":
            raise ModelError(f"model {reference!r}: the only builtin model is builtin:null")
        return Null()
    if scheme == "python":
        return _python_class(reference, rest)
    if scheme == "package":
        return _package(reference, rest)
    if match := _HUB.fullmatch(reference):
        return _hub_model(match["repository"], match["revision"])
    if match := _URL.fullmatch(reference):
        page = _PAGE.fullmatch(match["rest"])
        if match["scheme"] in ("http", "https") and not (page and page["revision"]):
            return ServedModelUrl(reference.rstrip("/"))
        raise ModelError(_no_url(reference, match["scheme"], page))
    path = _expanded(reference)
    if not path.is_dir():
        raise ModelError(f"model {reference!r} is not a directory{_seen(reference, path)}")
    return Located(path.resolve(), path.resolve().name)


def resolve(reference: str) -> Located | PythonClass | Null | ServedModelUrl:
    """Find a model; one of the hub in the hub's local cache. Raises `ModelError`."""
    found = parse(reference)
    if isinstance(found, HubModel):
        return Located(hub.cached(found.repository, found.revision).resolve(), found.repository)
    return found


def is_absent(reference: str) -> bool:
    """Whether it is a model of the hub that is not in the local cache. Raises `ModelError` as `parse`."""
    found = parse(reference)
    return isinstance(found, HubModel) and not hub.snapshot(found.repository, found.revision).is_dir()


def may_be_files(reference: str) -> bool:
    """Whether it leads to a directory of files, as far as the reference tells."""
    try:
        return isinstance(parse(reference), Located | HubModel)
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
    if path.suffix.lower() in _WEIGHTS:
        return f", and there is no such file: give the directory with config.json and *.safetensors, {path.parent}"
    if reference != reference.strip() and _expanded(reference.strip()).is_dir():
        return ": it begins or ends with a space"
    try:
        alike = [one for one in path.parent.iterdir() if one.name.lower() == path.name.lower() and one.is_dir()]
    except OSError:
        alike = []
    if alike:
        return f": did you mean {path.parent / alike[0].name}?"
    if _REPOSITORY.fullmatch(reference):
        return f" in {Path.cwd()}; {_named(reference)}"
    # The configuration's folder stands before its relative names.
    if path.is_absolute() and not path.parent.exists() and path.parent.parent.exists():
        return f" here, nor is {path.parent}; {_named('/'.join(path.parts[-2:]))}"
    name, at, revision = reference.partition("@")
    if at and _COMMIT.fullmatch(revision) and "/" not in name:
        return f"; a model of the hub is named with its owner, org/{reference}"
    if match := _SCHEME.match(reference):
        return f", and {match['scheme']}: is not a model reference; a model is {_FORMS}"
    where = "here" if path.is_absolute() else f"in {Path.cwd()}"
    return f" {where}; a model is {_FORMS}"


def _named(repository: str) -> str:
    return f"a model of the hub is named with its commit, as {repository}@REVISION: {_COMMIT_IS}"


def _no_url(reference: str, scheme: str, page: re.Match[str] | None) -> str:
    if scheme in ("http", "https") and page:
        named = f"{page['repository']}@{page['revision']}"
        return f"model {reference.partition('?')[0]!r} is a URL; a model of the hub is named {named}"
    return f"model {reference!r}: {scheme}:// is not read; copy the files to a directory here, and name that"


def _python_class(reference: str, rest: str) -> PythonClass:
    module, _, name = rest.partition(":")
    parts = module.split(".")
    if module.endswith(".py") or "/" in module:
        own = Path(module).with_suffix("").name
        raise ModelError(
            f"model {reference!r} names a file; name the module, importable from the working directory, and the class: "
            f"python:{own}:{name or 'CLASS'}"
        )
    if not name.isidentifier() or not all(part.isidentifier() for part in parts):
        dotted = ".".join(parts[:-1])
        hint = f", e.g. python:{dotted}:{parts[-1]}" if not name and dotted and parts[-1].isidentifier() else ""
        raise ModelError(f"model {reference!r} must have the form python:MODULE:CLASS{hint}")
    top = parts[0]
    if find_top(top) is None:
        raise ModelError(
            f"model {reference!r}: there is no module {top} in {Path.cwd()} or among the installed packages; correct "
            "its name, start in the folder that holds it, or set PYTHONPATH to that"
        )
    return PythonClass(module, name)


def _package(reference: str, rest: str) -> Located:
    package, _, folder = rest.partition("/")
    if not package.isidentifier():
        raise ModelError(f"model {reference!r} must have the form package:NAME/SUBDIR, NAME a top-level module")
    found = _installed(package)
    if found is None or not found.submodule_search_locations:
        why = advice(ModuleNotFoundError(name=package)) or f"Python package {package} is not installed here"
        raise ModelError(f"model {reference!r}: {why}")
    root = Path(found.submodule_search_locations[0]).resolve()
    path = (root / folder).resolve()
    if not path.is_relative_to(root) or not path.is_dir():
        raise ModelError(f"model {reference!r}: package {package} has no directory {folder!r}")
    return Located(path, rest)


def find_top(module: str) -> ModuleSpec | None:
    """The place of a top-level module, which is not imported for it: a worker looks in the working directory too,
    behind all that is installed."""
    return _installed(module) or PathFinder.find_spec(module, [str(Path.cwd())])


def _installed(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # of a finder that somebody installed; of a program's own `__main__`
        return None


def _hub_model(repository: str, revision: str) -> HubModel:
    if not _COMMIT.fullmatch(revision):
        raise ModelError(
            f"model {repository}@{revision}: the revision must be a full commit of 40 hex digits, which the model's "
            "page shows in its history; a branch or tag can change under a running pipeline"
        )
    return HubModel(repository, revision)
