"""Which tokens say that a tokenizer does not know what stands in the text."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import tokenizers


class UnknownTokens:
    """The unknown token, and those of single bytes into which some tokenizers split what they do not know. Tokenizers
    that read all text as bytes have none."""

    def __init__(self, ids: Collection[int]) -> None:
        self.ids = frozenset(ids)
        self._only = next(iter(self.ids)) if len(self.ids) == 1 else None

    def count(self, row: Sequence[int]) -> int:
        """How many of a row's ids are among them."""
        if self._only is not None:
            return row.count(self._only)
        return sum(map(self.ids.__contains__, row)) if self.ids else 0


def of_backend(tokenizer: tokenizers.Tokenizer) -> UnknownTokens:
    """As tokenizer.json says."""
    model = json.loads(tokenizer.to_str())["model"]
    found = {model.get("unk_id"), tokenizer.token_to_id(model.get("unk_token") or "")}
    if model.get("byte_fallback"):
        found |= {tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
    return UnknownTokens(found - {None})


def of_tokenizer(tokenizer: Any) -> UnknownTokens:
    """Of one of transformers', fast or slow."""
    if tokenizer.is_fast:
        return of_backend(tokenizer.backend_tokenizer)
    others = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return UnknownTokens({tokenizer.unk_token_id} - others - {None})
