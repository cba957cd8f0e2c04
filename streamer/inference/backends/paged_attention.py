"""Attention for continuous batching where each sequence sees its own keys alone.

transformers' `paged|sdpa` lays all sequences of a step side by side and masks what is not theirs: the cost of a step
grows with the product of all queries and all keys. Here the sequences that decode are padded into one batch of one
query each, and those that prefill go one by one. No mask is stored: it would take `max_batch_tokens` times the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from transformers import AttentionInterface

NAME: Final = "paged|by_sequence"


@dataclass(frozen=True, slots=True)
class _Plan:
    """One step's sequences. `decoding` holds the places of the queries that decode; `gather` (n, longest) where their
    keys lie, and `mask` (n, 1, 1, longest) which of those are theirs. `prefilling` holds for each other sequence the
    bounds of its queries and keys."""

    decoding: torch.Tensor
    gather: torch.Tensor
    mask: torch.Tensor
    prefilling: list[tuple[int, int, int, int]]


# A step's plan is made by its first layer and serves the others.
_plans: WeakKeyDictionary[Any, tuple[int, _Plan]] = WeakKeyDictionary()


def by_sequence(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    **step: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it: query (1, heads, tokens, d), key and value (1, kv heads, tokens, d)."""
    cache = step["cache"]
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    keys, values = cache.update(
        key_states=key,
        value_states=value,
        layer_idx=layer,
        read_index=step["read_index"],
        write_index=step["write_index"],
    )
    plan = _plan(cache, layer, step, query.device)
    queries = query[0].transpose(0, 1)  # (tokens, heads, d)
    heads, width = queries.shape[1:]
    kv_heads = keys.shape[1]
    output = torch.empty_like(queries)
    if len(plan.decoding):
        # The heads that share a key stand in the place of queries: nothing is repeated.
        grouped = queries[plan.decoding].view(-1, kv_heads, heads // kv_heads, width)
        attended = torch.nn.functional.scaled_dot_product_attention(
            grouped,
            keys[plan.gather].transpose(1, 2),
            values[plan.gather].transpose(1, 2),
            attn_mask=plan.mask,
            scale=scaling,
        )
        output[plan.decoding] = attended.reshape(-1, heads, width)
    for first, last, first_key, last_key in plan.prefilling:
        output[first:last] = _prefill(
            queries[first:last], keys[first_key:last_key], values[first_key:last_key], scaling
        )
    return output.unsqueeze(0), None


def _prefill(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """(tokens, heads, d) of one sequence, whose first keys may stem from steps before."""
    count, known = len(queries), len(keys)
    mask = None
    if known > count:
        mask = torch.ones(count, known, dtype=torch.bool, device=queries.device).tril(known - count)
    attended = torch.nn.functional.scaled_dot_product_attention(
        queries.transpose(0, 1).unsqueeze(0),
        keys.transpose(0, 1).unsqueeze(0),
        values.transpose(0, 1).unsqueeze(0),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return attended[0].transpose(0, 1)


def _plan(cache: Any, layer: int, step: dict[str, Any], device: torch.device) -> _Plan:
    known = _plans.get(cache)
    if known is not None and layer > known[0]:
        return known[1]
    bounds_k = step["cu_seq_lens_k"]
    if isinstance(bounds_k, dict):
        bounds_k = bounds_k["full_attention"]
    bounds, key_bounds = step["cu_seq_lens_q"].tolist(), bounds_k.tolist()
    decoding: list[int] = []
    firsts: list[int] = []
    lengths: list[int] = []
    prefilling: list[tuple[int, int, int, int]] = []
    for index in range(len(bounds) - 1):
        first, last = bounds[index], bounds[index + 1]
        first_key, last_key = key_bounds[index], key_bounds[index + 1]
        if last - first == 1:
            decoding.append(first)
            firsts.append(first_key)
            lengths.append(last_key - first_key)
        elif last > first:
            prefilling.append((first, last, first_key, last_key))
    places = torch.arange(max(lengths, default=0), device=device)
    length = torch.tensor(lengths, device=device).unsqueeze(1)
    theirs = places < length
    gather = torch.where(theirs, torch.tensor(firsts, device=device).unsqueeze(1) + places, 0)
    plan = _Plan(torch.tensor(decoding, device=device), gather, theirs[:, None, None, :], prefilling)
    _plans[cache] = (layer, plan)
    return plan


def register() -> str:
    """Make it known to transformers; returns the name to ask for."""
    AttentionInterface.register(NAME, by_sequence)
    return NAME
