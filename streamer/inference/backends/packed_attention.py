"""Attention over sequences that lie packed, one after the other without padding, each seeing its own tokens alone.

On a GPU by torch's kernel for variable lengths, on a CPU by the same products for sequences of one length together:
whatever else a packed encoder computes is the same code on both. Not yet measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

import torch
from transformers import AttentionInterface

# transformers takes a name with "flash" in it for its own; and it builds no mask for one without a mask function.
NAME: Final = "packed_by_bounds"

# What transformers hands to every attention and what changes no number of it.
_HARMLESS: Final = frozenset(
    {
        "cu_seq_lens_k",
        "deterministic",  # of a backward pass
        "dropout",  # 0 in inference
        "max_length_k",
        "output_attentions",
        "output_hidden_states",
        "position_ids",  # rotated into query and key already
        "return_dict",
        "use_cache",
    }
)


PARAMETERS: Final = 5_000_000
"""Below it no CPU packs: what a pass of so small a network costs is not its arithmetic."""


class UnpackableError(Exception):
    """The network can't run packed; `str()` says why."""


def packs(device: torch.device, dtype: torch.dtype, parameters: int) -> bool:
    """Whether packed sequences are worth trying there, for a network of so many parameters. The GPU's kernel takes half
    precision alone."""
    if device.type == "cuda":
        return dtype in (torch.bfloat16, torch.float16)
    return dtype is not torch.float16 and parameters >= PARAMETERS


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it: query, key and value (1, heads, tokens, d), the output (1, tokens, heads, d). Or
    sequences of one length as (n, heads, length, d), which need no packing.

    `cu_seq_lens_q` are the bounds of the sequences, (n + 1) of int32 from 0 to all tokens; `max_length_q` is the
    longest of them. Raises `UnpackableError` for what only some other attention can do.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        raise UnpackableError("its attention does not know where a sequence ends")
    refuse(module, query, key, value, attention_mask, is_causal, others)
    # As transformers' own kernels read it: the token itself is counted.
    reach = None if sliding_window is None else sliding_window - 1
    alone = query.shape[2] == max_length_q and len(cu_seq_lens_q) == len(query) + 1
    if alone and query.device.type == "cpu":
        near = _near(max_length_q, reach, query.device)
        alike = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=near, scale=scaling)
        return alike.transpose(1, 2), None
    attend = _by_kernel if query.device.type == "cuda" else _by_length
    queries, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    return attend(queries, keys, values, cu_seq_lens_q, max_length_q, scaling, reach).unsqueeze(0), None


def refuse(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    is_causal: bool | None,
    others: Mapping[str, Any],
) -> None:
    """Raises `UnpackableError` for what packed attention would compute wrongly."""
    if attention_mask is not None:
        raise UnpackableError("its attention has its own mask")
    if getattr(module, "is_causal", True) if is_causal is None else is_causal:
        raise UnpackableError("its attention is causal")
    if query.shape != key.shape or query.shape != value.shape:
        raise UnpackableError("its queries and its keys are not of one shape")
    asked = sorted(name for name, given in others.items() if name not in _HARMLESS and given is not None)
    if asked:
        raise UnpackableError(f"its attention asks for {asked[0]}")


def register() -> str:
    """Make it known to transformers; returns the name to ask for."""
    AttentionInterface.register(NAME, attend_packed)
    return NAME


def _by_kernel(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scale: float | None,
    reach: int | None,
) -> torch.Tensor:
    """(tokens, heads, d) each. `reach` is how far a token sees to either side; None sees its whole sequence."""
    from torch.nn.attention import varlen  # the CPU's workers do without

    window = (-1, -1) if reach is None else (reach, reach)
    attended = varlen.varlen_attn(
        queries, keys, values, bounds, bounds, longest, longest, scale=scale, window_size=window
    )
    assert isinstance(attended, torch.Tensor)  # a tuple with what only `return_aux` asks for
    return attended


def _by_length(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scale: float | None,
    reach: int | None,
) -> torch.Tensor:
    """What `_by_kernel` computes, on any device and in any dtype; neighbours of one length in one call."""
    near = _near(longest, reach, queries.device)
    attended = torch.empty_like(queries)
    lengths = bounds.diff().tolist()
    first = 0
    for length, alike in groupby(lengths):
        count = len(list(alike))
        last = first + count * length
        query, key, value = (
            part[first:last].view(count, length, *part.shape[1:]).transpose(1, 2) for part in (queries, keys, values)
        )
        mask = None if near is None else near[:length, :length]
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        attended[first:last] = found.transpose(1, 2).reshape(last - first, *queries.shape[1:])
        first = last
    return attended


def _near(longest: int, reach: int | None, device: torch.device) -> torch.Tensor | None:
    """(longest, longest): which tokens see which, where not all see all."""
    if reach is None or reach >= longest - 1:
        return None
    places = torch.arange(longest, device=device)
    return (places[:, None] - places).abs() <= reach
