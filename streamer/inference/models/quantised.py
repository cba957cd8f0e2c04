"""Quantised checkpoints: those whose weights can be made plain when they are loaded, so that answers are just those of
the plain weights. A worker takes as much memory as of a plain model.

What can't be held to that is refused with the file and the field; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from streamer.errors import ModelError
from streamer.extras import require

FIELD: Final = "quantization_config"
BITSANDBYTES: Final = "bitsandbytes"
_METHODS: Final = {BITSANDBYTES: "bitsandbytes", "fp8": "", "compressed-tensors": "compressed-tensors"}
"""The methods, each with the library beside transformers that makes weights plain."""
_FORMATS: Final = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized")
_PACKED: Final = {"U8": 2, "I32": 8}
_OFF: Final[tuple[Any, ...]] = (None, False, [], {})
_INSTEAD: Final = "take the model's original weights in float32, bfloat16 or float16"


def method_of(config: dict[str, Any]) -> str:
    """How the weights are quantised, as config.json names it; "" where they are plain."""
    found = config.get(FIELD) or (config.get("text_config") or {}).get(FIELD)
    return str(found.get("quant_method") or "an unnamed method") if isinstance(found, dict) else ""


def refuse_quantised(config: dict[str, Any], file: Path) -> None:
    """Raise `ModelError` for a method, or a field of one, by which weights can't be made plain here."""
    method, found = method_of(config), config.get(FIELD)
    if not method:
        return
    if method not in _METHODS or not isinstance(found, dict):
        known = f"only those by {', '.join(_METHODS)} are served"
        raise ModelError(f"{file} has {FIELD}: its weights are quantised by {method}, and {known}; {_INSTEAD}")
    check = {BITSANDBYTES: _of_bitsandbytes, "fp8": _of_fp8, "compressed-tensors": _of_compressed}[method]
    for field in check(dict(found)):
        raise ModelError(f"{file}: {FIELD} has {field}, which is not served; {_INSTEAD}")


def libraries_of(config: Any) -> tuple[str, ...]:
    """The distributions that answers hang on beside those of all models, by a configuration of transformers."""
    found = getattr(config, FIELD, None)
    return tuple(filter(None, [_METHODS[found["quant_method"]]])) if found else ()


def as_plain(config: Any, model: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` for a configuration of transformers, which it changes so that weights are made
    plain as they are read. Raises `MissingExtraError`."""
    quantised = getattr(config, FIELD, None)
    if quantised is None:
        return {}
    require(f"model {model}, whose weights are quantised,", "quantized")
    if quantised["quant_method"] != BITSANDBYTES:
        quantised["dequantize"] = True
    return {"device_map": {"": "cpu"}}


def refuse_experts(method: str, path: Path, names: Iterable[str]) -> None:
    """Raise `ModelError` where a checkpoint that could not be loaded is quantised and, by the names of its tensors, has
    experts: transformers merges these as it reads them, which not each method's weights can follow."""
    expert = next((name for name in names if ".experts." in name), "") if method else ""
    if expert:
        raise ModelError(
            f"{path / 'config.json'}: {FIELD}: a network of experts ({expert}) can't be made plain of these weights by "
            f"{method}; take one by fp8, or {_INSTEAD.removeprefix('take ')}"
        )


def numbers_in(dtype: str, *, packed: bool) -> int:
    """How many weights an element of a checkpoint's tensor may hold."""
    return _PACKED.get(dtype, 1) if packed else 1


def _of_bitsandbytes(found: dict[str, Any]) -> Iterator[str]:
    if bool(found.get("load_in_4bit")) == bool(found.get("load_in_8bit")):
        yield "neither load_in_4bit nor load_in_8bit alone"
    yield from _beyond(found, "load_in_", "_load_in_", "bnb_4bit_", "llm_int8_")
    if found.get("llm_int8_has_fp16_weight"):
        yield "llm_int8_has_fp16_weight"


def _of_fp8(found: dict[str, Any]) -> Iterator[str]:
    if (scheme := found.pop("activation_scheme", "dynamic")) != "dynamic":
        yield f"activation_scheme = {scheme!r}"
    if (form := found.pop("fmt", "e4m3")) != "e4m3":
        yield f"fmt = {form!r}"
    yield from _beyond(found, "weight_block_size", "modules_to_not_convert", "scale_fmt")


def _of_compressed(found: dict[str, Any]) -> Iterator[str]:
    if (form := found.pop("format", None)) not in (*_FORMATS, "mixed-precision"):
        yield f"format = {form!r}"
    for name, group in (found.pop("config_groups", None) or {}).items():
        for part in ("input_activations", "output_activations"):
            if group.get(part):
                yield f"config_groups.{name}.{part}: it rounds activations, too"
        if group.get("format") not in (*_FORMATS, None):
            yield f"config_groups.{name}.format = {group['format']!r}"
    sparse = found.pop("sparsity_config", None) or {}
    if sparse.get("format", "dense") != "dense":
        yield f"sparsity_config.format = {sparse['format']!r}"
    yield from _beyond(found, "ignore", "quantization_status", "global_compression_ratio", "version")


def _beyond(found: dict[str, Any], *known: str) -> Iterator[str]:
    """Fields that are set and not known, by the beginning of their names."""
    yield from (
        name for name, value in found.items() if not name.startswith(("quant_method", *known)) and value not in _OFF
    )
