"""What stands in a directory that is no model which can be served: an adapter, another format, another level."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamer.errors import ModelError

ADAPTER = "adapter_config.json"
RUNS_CODE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
_SAVE = "save them as safetensors (model.save_pretrained does)"
_OTHERS = {
    "*.gguf": "the format of llama.cpp",
    "*.onnx": "the format of ONNX",
    "onnx/*.onnx": "the format of ONNX",
    "openvino_model.xml": "the format of OpenVINO",
    "saved_model.pb": "the format of TensorFlow",
}


def refuse_adapter(path: Path) -> None:
    """An adapter changes the network that it lies beside, or names: which of the two is asked for can't be told."""
    if not (path / ADAPTER).is_file():
        return
    base = _read(path / ADAPTER).get("base_model_name_or_path") or "its base model"
    raise ModelError(
        f"model directory {path} has {ADAPTER}: it holds a LoRA or other adapter for {base}, not a whole model; name "
        f"{base} as the model, and this directory as its adapter"
    )


def not_a_model(path: Path, lacks: str) -> ModelError:
    """What to say of a directory that lacks `lacks`."""
    for pattern in RUNS_CODE:
        for file in sorted(path.glob(pattern)):
            return ModelError(
                f"model directory {path} has its weights only in {file.name}, a format that can run code when it is "
                f"loaded: {_SAVE}"
            )
    for pattern, known_as in _OTHERS.items():
        for file in sorted(path.glob(pattern)):
            return ModelError(
                f"model directory {path} has its weights only in {file.name}, {known_as}: take the model's original "
                "files, with *.safetensors"
            )
    return ModelError(f"model directory {path} has no {lacks}{_did_you_mean(path)}")


def _did_you_mean(path: Path) -> str:
    below = [file.parent for pattern in ("*/", "snapshots/*/") for file in sorted(path.glob(f"{pattern}config.json"))]
    near = [folder for folder in (*below, path.parent) if _looks_like_a_model(folder)]
    if not near:
        return ": it needs config.json, *.safetensors and a tokenizer"
    others = f" (or {near[1].name})" if len(near) > 1 and near[1] != path.parent else ""
    return f": did you mean {near[0]}{others}?"


def _looks_like_a_model(folder: Path) -> bool:
    return "model_type" in _read(folder / "config.json") and any(folder.glob("*.safetensors"))


def _read(file: Path) -> dict[str, Any]:
    """For a hint only: a file that can't be read says nothing."""
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
