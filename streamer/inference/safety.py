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

import msgspec

from streamer.errors import ModelError
from streamer.inference.sentence_files import CONFIG_FILE, MODULES_FILE, module_folders

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
_UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
_CONFIGURATIONS = ("config.json", "tokenizer_config.json")
_CHUNK_BYTES = 1 << 20


def used_files(path: Path) -> list[str]:
    """The files that a model in `path` is loaded from, relative and sorted. Raises `ModelError` when it is unsafe."""
    folders = module_folders(path)
    listed = {file for folder in folders for file in _matching(path / folder, SAFE_PATTERNS)}
    if "" not in folders:  # what lies beside its modules' folders is another model
        listed |= set(_matching(path, (MODULES_FILE, CONFIG_FILE)))
    names = sorted(file.relative_to(path).as_posix() for file in listed)
    if MODULES_FILE not in names and "config.json" not in names:
        raise ModelError(f"model directory {path} has no config.json")
    for folder in folders:
        unsafe = sorted(file.name for file in _matching(path / folder, _UNSAFE_WEIGHTS))
        if unsafe and not _matching(path / folder, ("*.safetensors",)):
            raise ModelError(
                f"model directory {path / folder} has its weights only in {unsafe[0]}, a format that can run code when "
                "it is loaded: save them as safetensors (model.save_pretrained does)"
            )
    if not any(name.endswith(".safetensors") for name in names):
        raise ModelError(f"model directory {path} has no *.safetensors")
    for name in names:
        if Path(name).name in _CONFIGURATIONS:
            _refuse_code(path / name)
    return names


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
    """A temporary directory that holds links to these files only; loaders that look for others find none."""
    with tempfile.TemporaryDirectory(prefix="streamer-model-") as folder:
        for name in names:
            link = Path(folder, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((path / name).resolve())
        yield Path(folder)


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file as a dict; empty when there is none. Raises `ModelError` when it is no JSON object."""
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path.name} of the model is no JSON object: {error}") from None


def _refuse_code(path: Path) -> None:
    """Keys by which a configuration asks for code: the model's own, or kernels fetched from elsewhere."""
    for key, value in _items(read_json(path)):
        if key == "auto_map" or key.lstrip("_").startswith("attn_implementation"):
            raise _unsafe(path, key)
        # The sizes of a convolution's kernel are numbers.
        if ("kernel" in key.split("_") and not _numbers(value)) or key in ("use_kernels", "kernels"):
            raise _unsafe(path, key)


def _unsafe(path: Path, key: str) -> ModelError:
    return ModelError(f"{path.name} of the model has {key!r}, which asks to run code: such models are refused")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), item
            yield from _items(item)
    elif isinstance(value, list):
        for item in value:
            yield from _items(item)


def _numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_numbers, value))
    return isinstance(value, int | float) and not isinstance(value, bool)
