"""Who a `python:` class is: a digest of its code, and of the files that decide what it answers.

- Its code: all modules of its package, and of every module that one of those imports and that is not installed from
  elsewhere, whether it is imported at once or later.
- The files that it declares as `files`, on the class or on the instance: paths of files or folders, or globs, relative
  to the class's own file. An empty list says that it reads none.
- What it read through Python while it was made; and where it declares nothing, the weights in its folder, which a
  library may have read below Python.

The digest can't know what a class reads later, or from elsewhere: so only one that declares `files` may share its
answers with other processes.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import inspect
import logging
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import Any, Final

from streamer.errors import ChangingModelError, ModelError
from streamer.inference.models.reads import Reads

WEIGHTS: Final = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".xml", ".h5", ".keras", ".pb", ".tflite"),
    *(".npy", ".npz", ".pkl", ".pickle", ".joblib", ".msgpack", ".model", ".spm", ".cbm", ".ubj", ".ftz"),
)
MAX_FILES: Final = 20_000
MAX_WEIGHTS_BYTES: Final = 4 << 30

_SOURCES: Final = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
_IMPORTS: Final = re.compile(rb"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)|import[ \t]+([A-Za-z_][\w., \t]*))", re.MULTILINE)
_SYSTEM: Final = tuple(map(Path, ("/proc", "/sys", "/dev", "/run", "/etc", "/usr/lib", "/usr/share")))

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClassIdentity:
    """`revision` is the digest; `shared` says whether it covers all that the class says it reads."""

    revision: str
    shared: bool


def identify(reference: str, kind: type[Any], made: object, reads: Reads, began_ns: int) -> ClassIdentity:
    """The identity of `made`, an instance of `kind`, whose making `reads` recorded and began at `began_ns`.

    Raises `ModelError` for a file that is declared and not there, and for one that changed since the making began:
    then nobody knows which of the two was read.
    """
    source = inspect.getmodule(kind)
    file = getattr(source, "__file__", None)
    if source is None or file is None:
        raise ModelError(f"{reference}: the class has no file: put it into a module")
    home = Path(file).absolute().parent  # not resolved: files may be links from a store
    own = {name.partition(".")[0] for name in (reference.split(":")[1], kind.__module__)}
    code, whole = _code(own, home, reads.packages)
    version = getattr(made, "version", None)
    parts = [("class", reference), ("kind", f"{kind.__module__}:{kind.__qualname__}")]
    parts += [("version", str(version))] if isinstance(version, str | int) else []
    parts += [("encoding", "base64")] if getattr(made, "encoding", None) == "base64" else []
    files = [("code", name, path) for name, path in code]
    declared = _declared(reference, made, home)
    if declared is None:
        files += [("weights", name, path) for name, path in _weights(reference, home)]
    else:
        files += [("files", name, path) for name, path in declared]
    seen = {path.resolve() for _, _, path in files}
    files += [("read", name, path) for name, path in _read(reads, home) if path.resolve() not in seen]
    if not whole:
        log.warning(
            "%s: its package has more than %d files, so that not all are part of its revision", reference, MAX_FILES
        )
    written = set(map(os.path.realpath, reads.written))
    total = hashlib.sha256()
    for one in (*parts, *((*item[:2], _digest(reference, item[2], began_ns, written)) for item in files)):
        for word in one:
            encoded = word.encode("utf-8", "surrogateescape")
            total.update(len(encoded).to_bytes(8, "big") + encoded)
    return ClassIdentity(total.hexdigest(), shared=whole and declared is not None)


def _digest(reference: str, path: Path, began_ns: int, written: set[str]) -> str:
    try:
        with path.open("rb") as stream:
            changed_ns = os.fstat(stream.fileno()).st_ctime_ns
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{reference}: {path} can't be read ({error.strerror})") from None
    if changed_ns > began_ns and os.path.realpath(path) not in written:
        raise ChangingModelError(f"{reference}: {path} changed while the class was loaded: start it again")
    return content


# --- files -----------------------------------------------------------------------------------------------------------


def _declared(reference: str, made: object, home: Path) -> list[tuple[str, Path]] | None:
    """Each file that the class declares, named by its place in the list and below it; None where it declares none."""
    declared = getattr(made, "files", None)
    if declared is None:
        return None
    if not isinstance(declared, list | tuple) or not all(isinstance(one, str | os.PathLike) for one in declared):
        raise ModelError(f'{reference}: files must be a list of paths, such as files = ["weights.json"]')
    found = []
    for index, one in enumerate(map(os.fspath, declared)):
        path = home / Path(one).expanduser()
        matches = [path]
        if not path.exists() and glob.has_magic(one):
            matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        if not matches or not all(match.is_file() or match.is_dir() for match in matches):
            raise ModelError(f"{reference}: its files name {one!r}, but there is no {path}")
        for match in matches:
            below = _walk(match, everything=True) if match.is_dir() else [match]
            found += [(f"{index}/{file.relative_to(match.parent).as_posix()}", file) for file in below]
    return found


def _weights(reference: str, home: Path) -> list[tuple[str, Path]]:
    """The weights in the class's folder, as far as one can look without being told."""
    if home.resolve() in _PLACES:  # a module among those of all packages
        return []
    found: list[Path] = []
    size_bytes = 0
    for number, file in enumerate(_walk(home)):
        if file.suffix in WEIGHTS:
            found.append(file)
            size_bytes += file.stat().st_size
        if number == MAX_FILES or size_bytes > MAX_WEIGHTS_BYTES:
            limit = f"{MAX_FILES} files or {MAX_WEIGHTS_BYTES >> 30} GiB of weights"
            log.warning(
                "%s: its folder holds more than %s: its revision does without them. Declare what it reads as `files`",
                reference,
                limit,
            )
            return []
    return [(file.relative_to(home).as_posix(), file) for file in found]


def _read(reads: Reads, home: Path) -> Iterator[tuple[str, Path]]:
    """What the class read while it was made, but for modules, what is installed, the system's and hidden files."""
    modules = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for name in reads.files:
        file = Path(name)
        if name in modules or file.suffix in BYTECODE_SUFFIXES or not file.is_file():
            continue
        if file.is_relative_to(home):
            yield file.relative_to(home).as_posix(), file
        elif not (is_installed(file, *_SYSTEM, _OURS) or any(part.startswith(".") for part in file.parts)):
            yield name, file


def _walk(folder: Path, *, everything: bool = False) -> Iterator[Path]:
    """The files below a folder, in a fixed order, links to folders followed; without hidden ones, environments and
    installed packages unless `everything` is asked for."""
    visited: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        true = os.path.realpath(here)
        if true in visited or (not everything and "pyvenv.cfg" in names):
            folders.clear()
            continue
        visited.add(true)
        kept = [name for name in folders if name != "__pycache__"]
        if not everything:
            kept = [name for name in kept if not name.startswith(".") and name not in ("site-packages", "node_modules")]
            names = [name for name in names if not name.startswith(".")]
        folders[:] = sorted(kept)
        yield from (file for name in sorted(names) if (file := Path(here, name)).is_file())


# --- code ------------------------------------------------------------------------------------------------------------


def _code(own: set[str], home: Path, imported: set[str]) -> tuple[list[tuple[str, Path]], bool]:
    """The source files of the packages `own`, of those that were `imported` with them, and of all that they import from
    outside what is installed; and whether these are all."""
    waiting = own | imported
    if home.resolve() not in _PLACES:  # what was imported by a name that no source shows
        loaded = ((name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items()))
        waiting |= {name.partition(".")[0] for name, file in loaded if file and Path(file).is_relative_to(home)}
    seen: set[str] = set()
    found: list[tuple[str, Path]] = []
    while waiting:
        top = waiting.pop()
        seen.add(top)
        for name, file in _modules(top, mine=top in own):
            found.append((name, file))
            if len(found) > MAX_FILES:
                return sorted(found[:-1]), False
            if file.suffix in SOURCE_SUFFIXES:
                waiting |= _imported(file.read_bytes()) - seen
    return sorted(found), True


def _modules(top: str, *, mine: bool) -> Iterator[tuple[str, Path]]:
    """The source files of a top-level module or package; of an installed one only where it is the class's own."""
    if not mine and (top in sys.stdlib_module_names or top == "streamer"):
        return
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.origin and Path(spec.origin).is_file() and (mine or not is_installed(Path(spec.origin))):
            yield Path(spec.origin).name, Path(spec.origin)
        return
    for location in map(Path, spec.submodule_search_locations):
        if mine or not is_installed(location):
            for file in _walk(location):
                if file.name.endswith(_SOURCES):
                    yield f"{top}/{file.relative_to(location).as_posix()}", file


def _imported(source: bytes) -> set[str]:
    """The top-level names after `import` and `from` at the beginning of a line; some may be words of a text."""
    found: set[str] = set()
    for one, several in _IMPORTS.findall(source):
        names: Iterable[bytes] = [one] if one else several.split(b",")
        found |= {name.split(b".")[0].split()[0].decode() for name in names if name.strip(b" \t.")}
    return found


def _places() -> tuple[Path, ...]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple({Path(path).resolve() for path in (*paths, *site.getsitepackages(), site.getusersitepackages())})


_PLACES: Final = _places()
_OURS: Final = Path(__file__).parents[2]


def is_installed(path: Path, *others: Path) -> bool:
    """Whether it lies where packages and Python itself are, or in one of `others`."""
    true = path.resolve()
    return any(true.is_relative_to(place) for place in (*_PLACES, *others))
