"""Texts to rows of token ids: what a model's files ask of a text, and what is done with one that is too long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import tokenizers
from tokenizers import normalizers

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.loading import load_tokenizer
from streamer.inference.transformer_file import Layout

Given = str | tuple[str, str]
"""A text, or a text and its pair, as one row of the network."""

# Cut before tokenising: a token of a text has fewer characters than this on average, else the whole text is encoded.
_CHARACTERS_A_TOKEN = 10
_NO_LIMIT = 1 << 20
# Tokens that a window shares with the one before it: transformers' own choice for question answering.
_STRIDE_TOKENS = 128
# RoBERTa and its kin number positions from the padding index on.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer", "ibert"})


class Row(msgspec.Struct, frozen=True, gc=False):
    """One sequence as the network reads it. `type_ids` is None where all are 0 or the network takes none. `left_out`
    are its first tokens, of a prompt, that the network reads and a pooling leaves out."""

    ids: list[int]
    type_ids: list[int] | None
    left_out: int = 0


class TextTokenizer:
    """A model's fast tokenizer. `max_tokens` is the most that the model reads in one row, special tokens included."""

    def __init__(self, path: Path, config: Any, windowed_side: int = 0, layout: Layout | None = None) -> None:
        """`windowed_side` says which text of a pair is read in windows; the other stands whole in each. `layout` says
        what files beside the tokenizer's ask of a text."""
        layout = layout or Layout()
        tokenizer = load_tokenizer(path)
        if not tokenizer.is_fast:
            raise ModelError("the tokenizer of the model has no fast form (tokenizer.json)")
        # A copy of its own: the object is not safe to share between threads.
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.takes_type_ids = "token_type_ids" in tokenizer.model_input_names
        if layout.lower_case:
            _lower_case(self._tokenizer)
        self._windowed_side = windowed_side
        self.pad_id = int(tokenizer.pad_token_id or 0)
        self.pads_left = tokenizer.padding_side == "left"
        self.mask_token: str | None = tokenizer.mask_token
        self.mask_id: int | None = tokenizer.mask_token_id
        self.unknown_id: int | None = tokenizer.unk_token_id
        self.cls_id: int | None = tokenizer.cls_token_id
        self.special_ids = frozenset[int](tokenizer.all_special_ids)
        self.max_tokens = _longest(config, layout.max_tokens or int(tokenizer.model_max_length))
        self._tokenizer.no_padding()
        self._truncate()

    def prepare(self, text: str) -> str:
        """What the model's files ask to do to a text before it is tokenised."""
        return text

    @property
    def overlap(self) -> int:
        """Tokens that a window of a text without pair shares with the one before it."""
        return self._stride(self.max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False))

    @property
    def marks_subwords(self) -> bool:
        """Whether a piece that goes on with a word is marked, as `##` does."""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))

    def decode(self, token: int) -> str:
        """A token as text."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def row(self, encoding: tokenizers.Encoding, given: Given) -> Row:
        """What the network reads of an encoding of `given`."""
        return Row(encoding.ids, encoding.type_ids if self.takes_type_ids and isinstance(given, tuple) else None)

    def is_cut(self, encoding: tokenizers.Encoding) -> bool:
        """Whether more of the text lies beyond this encoding."""
        return len(encoding) >= self.max_tokens and bool(encoding.overflowing)

    def encode(self, given: Sequence[Given], *, offsets: bool = False) -> list[tokenizers.Encoding]:
        """All in one call, each cut at `max_tokens`. `offsets` are of characters in `given`, and cost time."""
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        cut = {index: _cut(one, limit) for index, one in enumerate(given) if _characters(one) > limit}
        encodings = self._encode([cut.get(index, one) for index, one in enumerate(given)] if cut else given, offsets)
        for index in cut:
            if not encodings[index].overflowing:  # many characters a token: the cut text may not reach the limit
                encodings[index] = self._encode([given[index]], offsets)[0]
        return encodings

    def windows(self, given: Given, *, offsets: bool = False) -> list[tokenizers.Encoding] | DataFailure:
        """The whole of a text that is too long, in windows of `max_tokens` that overlap. Fails where the other text
        of the pair takes three quarters of every window."""
        self._tokenizer.no_truncation()
        try:
            (whole,) = self._encode([given], offsets=False)
            sides = whole.sequence_ids
            room = self.max_tokens - (len(sides) - sides.count(self._side(given)))
            if room < max(2, self.max_tokens // 4):
                message = f"one text of the pair leaves the other less than a quarter of {self.max_tokens} tokens"
                return DataFailure(Code.INFER_TOO_LONG, message)
            self._truncate(self._stride(room), ("only_first", "only_second")[self._side(given)])
            (first,) = self._encode([given], offsets)
        finally:
            self._truncate()
        return [first, *first.overflowing]

    def _stride(self, room: int) -> int:
        return min(room // 2, _STRIDE_TOKENS)

    def _side(self, given: Given) -> int:
        return self._windowed_side if isinstance(given, tuple) else 0

    def _truncate(self, stride: int = 0, strategy: str = "longest_first") -> None:
        self._tokenizer.enable_truncation(self.max_tokens, stride=stride, strategy=strategy)

    def _encode(self, given: Sequence[Given], offsets: bool) -> list[tokenizers.Encoding]:
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        encodings: list[tokenizers.Encoding] = encode(given)
        return encodings


def _lower_case(tokenizer: tokenizers.Tokenizer) -> None:
    """Make letters small first, as sentence-transformers does for `do_lower_case`; special tokens stay as they are."""
    known = tokenizer.normalizer
    parts: list[Any] = [known] if known is not None else []
    if isinstance(known, normalizers.Sequence):
        parts = list(known)  # type: ignore[call-overload]
    if not any(isinstance(part, normalizers.Lowercase) for part in parts):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])


def _longest(config: Any, tokenizer_limit: int) -> int:
    """The least of what the tokenizer, or the file that stands in for it, and the position table allow."""
    limits = [tokenizer_limit, _NO_LIMIT]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        limits.append(positions - ((config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0))
    return min(limits)


def _characters(given: Given) -> int:
    return len(given) if isinstance(given, str) else max(len(given[0]), len(given[1]))


def _cut(given: Given, limit: int) -> Given:
    return given[:limit] if isinstance(given, str) else (given[0][:limit], given[1][:limit])
