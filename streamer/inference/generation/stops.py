"""Stop strings of a model's files: they end a text and stay in it, as `generate` does it with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers.generation.stopping_criteria import StoppingCriteria, StopStringCriteria

from streamer.errors import ModelError

# Of tokens whose text is looked at, beside those that the string itself can take.
_TAIL_TOKENS: Final = 8


def file_stops(decoder: Any, strings: Any) -> StoppingCriteria | None:
    """The criterion for the field `stop_strings`, or None where it names none. Raises `ModelError`.

    transformers' own, which works over the vocabulary; it can't be made for tokenizers that do not know the letters
    that it tries: then the text is looked at.
    """
    if not strings:
        return None
    listed = [strings] if isinstance(strings, str) else strings
    if not isinstance(listed, list) or not all(isinstance(one, str) and one for one in listed):
        raise ModelError("generation_config.json: stop_strings must be a string or a list of strings, none empty")
    try:
        return StopStringCriteria(decoder, listed)
    except (ValueError, IndexError, KeyError):
        return _StopsInText(decoder, listed)


class _StopsInText(StoppingCriteria):
    """Whether a row's last token completes a stop string."""

    def __init__(self, decoder: Any, strings: Sequence[str]) -> None:
        self._decoder = decoder
        self._strings = strings
        self._most = max(len(one.encode()) for one in strings) + _TAIL_TOKENS

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor | None, **_: Any) -> torch.BoolTensor:
        """(rows,) True for those that end with one."""
        tails = input_ids[:, -self._most :].tolist()
        done = [self._count(tail) > self._count(tail[:-1]) for tail in tails]
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]

    def _count(self, ids: list[int]) -> int:
        text = self._decoder.decode([one for one in ids if one >= 0])
        return sum(text.count(one) for one in self._strings)
