"""Whether rows of one batch are answered as each is alone: measured for each network when it is loaded.

Padding changes what many networks compute: learned positions that are counted from the left, states that run over every
position, experts of limited room, blocks of local attention. No list of architectures could be complete.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

from streamer.inference.model import Sharing
from streamer.inference.worker.trouble import is_out_of_memory

Rows = Sequence[list[int]]
Numbers = Callable[[Rows], list[torch.Tensor]]
"""The numbers of each row of a batch, as float32 on any device; it pads rows of different lengths as the task does."""

_LONG_CPU, _LONG_CUDA = 1024, 4096
# Of float32: what the order of additions changes. Of lower precisions, nats in the mean of a row.
_ABSOLUTE, _RELATIVE, _LOW_MEAN = 1e-3, 1e-5, 0.05
_SEED: Final = 16
# How far below the best a token's logit may lie and still count as a tie, by the numbers it was computed in.
_TIE_FLOAT32, _TIE_LOW = 1e-3, 0.25


CHANGED_BY_COMPANY: Final = "%s answers otherwise in a padded batch than alone, as measured: %s share a pass"


def known_rows(texts: Rows, long: list[int], most: int) -> list[list[int]]:
    """Rows of different lengths up to `most`: those of known texts, the least that there is, some drawn with a fixed
    seed from the same tokens, and a long one."""
    tokens = sorted({token for row in texts for token in row}) or [0]
    draw = random.Random(_SEED)
    drawn = [draw.choices(tokens, k=length) for length in (1, 2, 7, 33)]
    rows = [row[:most] for row in (*texts, *drawn, long) if row]
    return sorted(rows, key=len)


def longest_check(device: torch.device) -> int:
    """Tokens of the longest row of a check: bounded by what it costs at each start."""
    return _LONG_CUDA if device.type == "cuda" else _LONG_CPU


def sharing_of(rows: Rows, numbers: Numbers, *, exact: bool) -> Sharing:
    """How these rows may share batches; the longest only with one other, since such a batch is large. `exact` is of
    float32. A batch that raises may not be made."""
    alone = [numbers([row])[0] for row in rows]
    short, longest = rows[:-1], rows[-1]
    pair = [rows[len(rows) // 2], longest]
    if _agrees(short, alone[:-1], numbers, exact) and _agrees(pair, [alone[len(rows) // 2], alone[-1]], numbers, exact):
        return Sharing.PADDED
    cut = max(2, len(pair[0]))
    equal = [row[:cut] for row in rows if len(row) >= cut]
    return Sharing.EQUAL if _agrees(equal, [numbers([row])[0] for row in equal], numbers, exact) else Sharing.ALONE


def _agrees(rows: Rows, alone: Sequence[torch.Tensor], numbers: Numbers, exact: bool) -> bool:
    """Where memory does not do for a batch, rows of half the length tell: that it is too large says nothing of it."""
    try:
        together = numbers(rows)
    except (IndexError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        if not is_out_of_memory(error):
            return False
        most = max(map(len, rows)) // 2
        if not most:
            raise
    else:
        return all(close(one, other, exact=exact) for one, other in zip(together, alone, strict=True))
    shorter = [row[:most] for row in rows]
    return _agrees(shorter, [numbers([row])[0] for row in shorter], numbers, exact)


def close(one: torch.Tensor, other: torch.Tensor, *, exact: bool) -> bool:
    """Whether two rows of numbers are the same but for rounding. False for NaN."""
    if one.shape != other.shape:
        return False
    if one.numel() == 0:
        return True
    distance = torch.where(one == other, 0.0, (one - other).abs())  # equal infinities have no difference
    if exact:
        return bool((distance <= _ABSOLUTE + _RELATIVE * other.abs()).all())
    return float(distance.mean()) <= _LOW_MEAN


def length_matters_from(config: Any) -> int | None:
    """From how many tokens on the network reads the first ones otherwise (position embeddings that are scaled by the
    longest row of a batch); None where it never does."""
    found = []
    for config_of_part in {id(one): one for one in (config, config.get_text_config())}.values():
        given = getattr(config_of_part, "rope_parameters", None) or {}
        for one in given.values() if any(isinstance(value, dict) for value in given.values()) else [given]:
            if isinstance(one, dict) and one.get("rope_type") in ("dynamic", "longrope"):
                limit = one.get("original_max_position_embeddings") or config_of_part.max_position_embeddings
                found.append(int(limit))
    return min(found, default=None)


def pages(config: Any) -> bool:
    """Whether every layer attends, so that a paged cache can hold all that the network keeps of a sequence."""
    text = config.get_text_config()
    layers = getattr(text, "layer_types", None) or ["full_attention"]
    heads = getattr(text, "num_attention_heads", None)
    return isinstance(heads, int) and set(layers) <= {"full_attention", "sliding_attention"}


def window_of(config: Any) -> int | None:
    """The narrowest local attention of any layer, in tokens; None where all layers read all."""
    text = config.get_text_config()
    named = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    return min((one for one in named if isinstance(one, int) and one > 0), default=None)


def likeliest(network: Any, ids: list[int], tokens: list[int]) -> bool:
    """Whether each of `tokens` is the likeliest that a plain pass over one row finds behind `ids`, or ties with it."""
    tie = _TIE_FLOAT32 if network.dtype is torch.float32 else _TIE_LOW
    kept = {"logits_to_keep": len(tokens) + 1} if network._supports_logits_to_keep() else {}
    with torch.inference_mode():
        row = torch.tensor([ids + tokens], device=network.device)
        logits = network(input_ids=row, **kept).logits[0, -len(tokens) - 1 : -1].float()
    chosen = logits.gather(1, row[0, len(ids) :, None])[:, 0]
    return bool((logits.amax(-1) - chosen <= tie).all())
