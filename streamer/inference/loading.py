"""A model's own files, loaded as they say or refused: configuration, tokenizer and network.

What is served is what the files ask for. No weight is made up, no code of the model's runs, and nothing that
transformers would forgive in silence is forgiven here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from streamer.errors import ModelError


def load_config(path: Path) -> Any:
    """The network's configuration. Raises `ModelError`."""
    return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def load_tokenizer(path: Path) -> Any:
    """The tokenizer, fast or slow. Raises `ModelError` where the files hold none, or one that can't be loaded here."""
    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def load_network(
    kind: Any,
    path: Path,
    config: Any,
    *,
    dtype: torch.dtype,
    task: str,
    model: str,
    forgives: Callable[[str], bool] = lambda _: False,
) -> Any:
    """The network of the Auto class `kind`, in `dtype`, on the CPU, in inference mode.

    Raises `ModelError` for weights that lack what the task reads; `forgives` says of a missing weight that the task
    does not read it. `model` is what the user calls it.
    """
    network, info = kind.from_pretrained(
        path,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    missing = sorted(key for key in info["missing_keys"] if not forgives(key))
    if missing or info.get("mismatched_keys"):
        lacking = missing[0] if missing else "weights of the shape that config.json says"
        raise ModelError(f"the weights of {model} lack {lacking}: it was not trained for {task}")
    return network.eval().requires_grad_(False)
