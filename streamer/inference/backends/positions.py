"""How long a row a network can read, and which tokens: read from the network itself, not from its name."""

from __future__ import annotations

from typing import Any

import torch

# What architectures call the table that a token's absolute position is looked up in.
_TABLES = frozenset({"position_embeddings", "position_embedding", "embed_positions", "wpe"})


def readable_tokens(network: Any, *, only_tables: bool = False) -> int | None:
    """The longest row that the network has positions for; None where its files set no limit. `only_tables` leaves out
    what config.json says, which binds no network that rotates its vectors by their positions.

    RoBERTa and its kin number positions from the one after the padding index, BART and its kin from an offset: a table
    is longer than what it can number.
    """
    config = network.config
    limits = []
    stated = getattr(config, "max_position_embeddings", None)
    if isinstance(stated, int) and stated > 0 and not only_tables:
        limits.append(stated)
    for name, module in network.named_modules():
        path = name.split(".")
        # The decoder of an encoder-decoder reads no text of ours.
        if isinstance(module, torch.nn.Embedding) and path[-1] in _TABLES and "decoder" not in path:
            limits.append(module.num_embeddings - _first_position(module))
    return min(limits, default=None)


def token_vectors(network: Any) -> torch.Tensor | None:
    """(tokens, width): what the network knows tokens by; None where it does not say."""
    try:
        vectors: torch.Tensor = network.get_input_embeddings().weight
    except (AttributeError, NotImplementedError):  # of a class that names no layer, or one that computes vectors
        return None
    return vectors


def known_tokens(network: Any) -> int | None:
    """How many tokens the network has vectors for; None where it does not say."""
    vectors = token_vectors(network)
    return None if vectors is None else len(vectors)


def _first_position(table: torch.nn.Embedding) -> int:
    offset = getattr(table, "offset", None)
    if isinstance(offset, int):
        return offset
    return 0 if table.padding_idx is None else table.padding_idx + 1
