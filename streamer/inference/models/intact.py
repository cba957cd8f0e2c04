"""Whether the files of a model directory are whole: no pointers in place of files, no truncated weights, no missing
shards.

The layout of a safetensors file is that of its format's description: eight bytes with the length of a JSON header,
little-endian; the header, which gives each tensor its dtype, shape and place; then the tensors' bytes, without gaps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamer.errors import ModelError

_POINTER = b"version https://git-lfs.github.com/"
_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000
INDEX = ".safetensors.index.json"
# Read once, by who needs them: a look at them takes as long.
_LARGE = ("tokenizer.json", "vocab.json")
# Only these hold nothing when they are empty; an empty merges.txt or template is one.
_NEVER_EMPTY = (".json", ".safetensors", ".model", ".spm", "vocab.txt")


def refuse_broken(path: Path, names: list[str]) -> None:
    """Look at each file of a model, without reading weights. Raises `ModelError` that names the file."""
    for name in names:
        _refuse_stand_in(path / name)
        if name.endswith(".json") and Path(name).name not in _LARGE:
            _decode((path / name).read_bytes(), str(path / name))
        if name.endswith(".safetensors"):
            read_header(path / name)
    for name in names:
        if name.endswith(INDEX):
            _refuse_missing_shards(path / name)


def decode_object(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object, read as transformers reads it: `NaN` and `Infinity` are numbers. Raises `ModelError`."""
    value = _decode(data, where)
    if not isinstance(value, dict):
        raise ModelError(f"{where} is not a JSON object but a {type(value).__name__}")
    return value


def _decode(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode())
    except ValueError as error:  # of JSON, and of UTF-8
        raise ModelError(f"{where} is not JSON: {error}") from None


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Dtype, shape and place of each tensor of a safetensors file. Raises `ModelError` where the file is not whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if not 2 <= length <= _LARGEST_HEADER:
            raise ModelError(f"{file} is damaged, or not a safetensors file: copy or download it again")
        header = stream.read(length)
    if len(header) < length:
        raise ModelError(f"{file} is truncated, within its header: copy or download it again")
    tensors = decode_object(header.rstrip(), f"the header of {file}")
    tensors.pop("__metadata__", None)
    try:
        ends = [int(tensor["data_offsets"][1]) for tensor in tensors.values()]
    except (TypeError, LookupError, ValueError):
        raise ModelError(f"{file} is damaged, in its header: copy or download it again") from None
    expected = _LENGTH_BYTES + length + max(ends, default=0)
    if size != expected:
        fault = "truncated" if size < expected else "damaged"
        raise ModelError(f"{file} is {fault}: it has {size} bytes instead of {expected}; copy or download it again")
    return tensors


def _refuse_stand_in(file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        raise ModelError(
            f"{file} is a Git LFS pointer, not the file itself: run `git lfs pull` in {file.parent}, or download the "
            "model again"
        )
    if not start and file.name.endswith(_NEVER_EMPTY):
        raise ModelError(f"{file} is empty: copy or download it again")


def _refuse_missing_shards(index: Path) -> None:
    shards = decode_object(index.read_bytes(), str(index)).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"{index} has no weight_map: save the model again with save_pretrained")
    missing = sorted({str(name) for name in shards.values() if not (index.parent / str(name)).is_file()})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{index} names {missing[0]}{more}, which is not there: copy or download all shards")
