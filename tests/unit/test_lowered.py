"""A network that is cast has each weight, and what it makes itself, in the dtype in which transformers loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from streamer.inference.models.device import lower

_DECODER: Final = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "pad_token_id": 0,
}
_EXPERTS: Final = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
_BOTH: Final = {"vocab_size": 32, "d_model": 16, "pad_token_id": 0, "decoder_start_token_id": 2}
_LAYERS: Final = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
}


def _dtypes(network: nn.Module) -> dict[str, torch.dtype]:
    return {name: one.dtype for name, one in [*network.named_parameters(), *network.named_buffers()]}


@pytest.mark.parametrize(
    ("kind", "model_type", "fields", "dtype"),
    [
        # Tables of positions that are added to embeddings: in float32 no layer would take the sum.
        (AutoModelForSeq2SeqLM, "m2m_100", _BOTH | _LAYERS, torch.bfloat16),
        # Frequencies of positions stay.
        (AutoModelForCausalLM, "llama", _DECODER, torch.bfloat16),
        # The biases by which a router chooses its experts stay.
        (AutoModelForCausalLM, "glm4_moe", _DECODER | _EXPERTS, torch.bfloat16),
        # Numbers that are too large for float16 stay.
        (AutoModelForSeq2SeqLM, "t5", _BOTH | {"d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}, torch.float16),
        # A layer that is made by the configuration's own dtype.
        (AutoModelForCausalLM, "apertus", _DECODER, torch.bfloat16),
    ],
)
def test_each_number_is_in_the_dtype_that_transformers_loads(
    kind: Any, model_type: str, fields: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    kind.from_config(AutoConfig.for_model(model_type, **fields)).save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path, dtype=dtype)
    assert _dtypes(lower(kind.from_pretrained(tmp_path, dtype=torch.float32), dtype)) == _dtypes(loaded)
    assert _dtypes(lower(loaded, dtype)) == _dtypes(kind.from_pretrained(tmp_path, dtype=dtype))
