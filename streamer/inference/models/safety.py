"""Which files of a model directory are used, whether they are safe to load, and their digest.

Only safetensors and plain data are loaded, no code of the model's; and what is loaded is what was hashed: the loader
sees a directory of links to the hashed files and nothing else.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamer.errors import ModelError
from streamer.inference.models.formats import RUNS_CODE, not_a_model, refuse_adapter
from streamer.inference.models.intact import INDEX, decode_object, refuse_broken
from streamer.inference.models.quantised import refuse_quantised
from streamer.inference.models.sentence_files import CONFIG_FILE, MODULES_FILE, module_folders

SAFE_PATTERNS = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.spm",
    "chat_template.jinja",
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "router_config.json",
)
"""In the directory itself, and in the folders that its modules.json names."""
# transformers' own ways of attention and of experts. Any other name is a kernel to be fetched, or nothing.
_OWN_WAYS = frozenset(
    {"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"}
    | {"grouped_mm", "batched_mm"}
)
_WAYS = ("attn_implementation", "experts_implementation")
_WHOLE = "model.safetensors"
_OTHER_WEIGHTS = b"transformers_weights"
_CHUNK_BYTES = 1 << 20


def used_files(path: Path) -> list[str]:
    """The files that a model in `path` is loaded from, relative and sorted. Raises `ModelError` when it is unsafe."""
    refuse_adapter(path)
    if (path / MODULES_FILE).is_file():
        refuse_broken(path, [MODULES_FILE])
    folders = module_folders(path)
    listed = {file for folder in folders for file in _matching(path / folder, SAFE_PATTERNS)}
    if "" not in folders:  # what lies beside its modules' folders is another model
        listed |= set(_matching(path, (MODULES_FILE, CONFIG_FILE)))
    names = sorted(file.relative_to(path).as_posix() for file in listed)
    if MODULES_FILE not in names and "config.json" not in names:
        raise not_a_model(path, "config.json")
    unused = _never_read(path, names)
    names = [name for name in names if name not in unused]
    weights = [name for name in names if name.endswith((".safetensors", INDEX))]
    for folder in folders:
        inside = _matching(path / folder, ("*.safetensors", f"*{INDEX}"))
        if not inside and (not weights or _matching(path / folder, RUNS_CODE)):
            raise not_a_model(path / folder, "*.safetensors")
    refuse_broken(path, names)
    for name in names:
        if Path(name).name == "config.json":
            config = read_json(path / name)
            refuse_quantised(config, path / name)
            refuse_kernels(config, path / name)
    return names


def _never_read(path: Path, names: Sequence[str]) -> set[str]:
    """Weights in other formats and precisions beside those of the usual name, which loaders take, unless config.json
    names others."""
    found = set()
    for name in names:
        folder = Path(name).parent
        whole, config = (folder / _WHOLE).as_posix(), path / folder / "config.json"
        beside = name.endswith((".safetensors", INDEX)) and name != whole and whole in names
        if beside and not (config.is_file() and _OTHER_WEIGHTS in config.read_bytes()):
            found.add(name)
    return found


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]


def digest(path: Path, names: list[str]) -> str:
    """SHA-256 over names and contents, each with its length before it, as hex."""
    total = hashlib.sha256()
    for name in names:
        encoded = name.encode()
        file = path / name
        total.update(len(encoded).to_bytes(8, "big") + encoded + file.stat().st_size.to_bytes(8, "big"))
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                total.update(chunk)
    return total.hexdigest()


@contextmanager
def view(path: Path, names: list[str]) -> Iterator[Path]:
    """A temporary directory that holds links to these files only; loaders that look for others find none.

    What is raised within it names `path`, not the temporary directory, which nobody could look into.
    """
    with tempfile.TemporaryDirectory(prefix="streamer-model-") as folder:
        for name in names:
            link = Path(folder, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((path / name).resolve())
        try:
            yield Path(folder)
        except Exception as error:
            message = str(error)
            if folder not in message:
                raise
            if isinstance(error, ModelError):
                raise type(error)(message.replace(folder, str(path))) from None
            words = " ".join(message.replace(folder, str(path)).split())
            raise ModelError(f"model {path} can't be loaded: {type(error).__name__}: {words}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file as a dict; empty when there is none. Raises `ModelError` when it is no JSON object."""
    return decode_object(path.read_bytes(), str(path)) if path.is_file() else {}


def refuse_kernels(config: dict[str, Any], file: Path) -> None:
    """Fields by which a configuration asks for code from elsewhere: attention or experts by the name of a repository.

    Nothing else in a configuration is run: `auto_map` names code that is never loaded here, and other fields about
    kernels choose among those that transformers has itself. Raises `ModelError`.
    """
    for key, value in _items(config):
        if key.lstrip("_") in _WAYS:
            for name in value.values() if isinstance(value, dict) else [value]:
                if name is not None and str(name).removeprefix("paged|") not in _OWN_WAYS:
                    raise ModelError(
                        f"{file} has {key} = {name!r}, which asks to run code from elsewhere: such models are refused; "
                        f'set it to "eager" or take it out'
                    )


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), item
            yield from _items(item)
    elif isinstance(value, list):
        for item in value:
            yield from _items(item)
