"""Texts to rows of token ids: what a model's files ask of a text, and what is done with one that is too long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import tokenizers

from streamer.errors import Code, DataFailure
from streamer.inference.loading import load_tokenizer
from streamer.inference.safety import read_json

# Told apart from one another by nothing but where they stand: the types of a single text's tokens.
_LETTERS = "a b c"
Given = str | tuple[str, str]
"""A text, or a text and its pair, as one row of the network."""

# Cut before tokenising: a token of a text has fewer characters than this on average, else the whole text is encoded.
_CHARACTERS_A_TOKEN = 10
NO_LIMIT = 1 << 20
# Tokens that a window shares with the one before it: transformers' own choice for question answering.
_STRIDE_TOKENS = 128


class Row(msgspec.Struct, frozen=True, gc=False):
    """One sequence as the network reads it. `type_ids` is None where all are 0 or the network takes none."""

    ids: list[int]
    type_ids: list[int] | None


class TextTokenizer:
    """A model's fast tokenizer. `max_tokens` is the most that the model reads in one row, special tokens included.

    `pad_id` and `pads_left` say how rows are padded; whoever runs the network sets what suits it. `control` False
    reads the letters of control tokens in a text as letters.
    """

    def __init__(self, path: Path, windowed_side: int = 0, *, control: bool = True) -> None:
        """`windowed_side` says which text of a pair is read in windows; the other stands whole in each."""
        tokenizer = load_tokenizer(path, fast=True)
        # A copy of its own: the object is not safe to share between threads.
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.encode_special_tokens = not control
        if hasattr(self._tokenizer.model, "dropout"):
            self._tokenizer.model.dropout = None  # a text is read in one way
        self.takes_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._lower_case = bool(read_json(path / "sentence_bert_config.json").get("do_lower_case", False))
        self._windowed_side = windowed_side
        self._cut_left = tokenizer.truncation_side == "left"
        self.size = len(tokenizer)
        self.pad_id: int | None = tokenizer.pad_token_id
        self.pads_left = tokenizer.padding_side == "left"
        self.mask_token: str | None = tokenizer.mask_token
        self.mask_id: int | None = tokenizer.mask_token_id
        self.unknown_id: int | None = tokenizer.unk_token_id
        self.cls_id: int | None = tokenizer.cls_token_id
        self._known_tokens: int | None = None
        self.max_tokens = min(int(tokenizer.model_max_length), NO_LIMIT)
        declared = read_json(path / "sentence_bert_config.json").get("max_seq_length")
        if isinstance(declared, int) and declared > 0:
            self.max_tokens = min(self.max_tokens, declared)
        self._tokenizer.no_padding()
        self._truncate()
        self._types_singles = self.takes_type_ids and any(self._encode([_LETTERS], offsets=True)[0].type_ids)

    def fit(self, *, readable: int | None, known: int | None = None, takes_type_ids: bool = True) -> None:
        """Keep to a network: the longest row and the number of tokens that it can read, None for any."""
        self.takes_type_ids = self.takes_type_ids and takes_type_ids
        if readable is not None:
            self.max_tokens = min(self.max_tokens, readable)
            self._truncate()
        if known is not None and self.size > known:
            self._known_tokens = known

    def prepare(self, text: str) -> str:
        """What the model's files ask to do to a text before it is tokenised."""
        return text.lower() if self._lower_case else text

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
        typed = self.takes_type_ids and (self._types_singles or isinstance(given, tuple))
        return Row(encoding.ids, encoding.type_ids if typed else None)

    def unreadable(self, encoding: tokenizers.Encoding) -> DataFailure | None:
        """The failure of a text with a token that the network has no vector for: the tokenizer has more tokens."""
        if self._known_tokens is None or max(encoding.ids, default=0) < self._known_tokens:
            return None
        message = f"the text holds a token that the model's embedding lacks: it has {self._known_tokens} of {self.size}"
        return DataFailure(Code.VALIDATE_TEXT, message)

    def sample(self, tokens: int, seed: int) -> str:
        """About so many tokens drawn from the whole vocabulary, as a text; the same for the same seed."""
        drawn = np.random.default_rng(seed).integers(0, self._tokenizer.get_vocab_size(), tokens)
        return self._tokenizer.decode(drawn.tolist(), skip_special_tokens=True)

    def is_cut(self, encoding: tokenizers.Encoding) -> bool:
        """Whether more of the text lies beyond this encoding."""
        return len(encoding) >= self.max_tokens and bool(encoding.overflowing)

    def encode(self, given: Sequence[Given], *, offsets: bool = False) -> list[tokenizers.Encoding]:
        """All in one call, each cut at `max_tokens`. `offsets` are of characters in `given`, and cost time."""
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        cut = {index: self._cut(one, limit) for index, one in enumerate(given) if _characters(one) > limit}
        encodings = self._encode([cut.get(index, one) for index, one in enumerate(given)] if cut else given, offsets)
        for index in cut:
            # Few tokens a character, or a word that the cut divided: the cut text may not end as the whole one does.
            if len(encodings[index].overflowing) < 2 or (offsets and self._cut_left):
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
            self._truncate(self._stride(room), ("only_first", "only_second")[self._side(given)], left=False)
            (first,) = self._encode([given], offsets)
        finally:
            self._truncate()
        return [first, *first.overflowing]

    def _stride(self, room: int) -> int:
        return min(room // 2, _STRIDE_TOKENS)

    def _cut(self, given: Given, limit: int) -> Given:
        """Enough of a text to fill a row. Of a pair whose texts are both too long nothing is cut: how much of each is
        kept hangs on which has more tokens."""
        if isinstance(given, str):
            return given[-limit:] if self._cut_left else given[:limit]
        first, second = given
        if len(first) > limit and len(second) > limit:
            return given
        return self._cut(first, limit), self._cut(second, limit)  # type: ignore[return-value]

    def _side(self, given: Given) -> int:
        return self._windowed_side if isinstance(given, tuple) else 0

    def _truncate(self, stride: int = 0, strategy: str = "longest_first", *, left: bool | None = None) -> None:
        direction = "left" if (self._cut_left if left is None else left) else "right"
        self._tokenizer.enable_truncation(self.max_tokens, stride=stride, strategy=strategy, direction=direction)

    def _encode(self, given: Sequence[Given], offsets: bool) -> list[tokenizers.Encoding]:
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        encodings: list[tokenizers.Encoding] = encode(given)
        return encodings


def _characters(given: Given) -> int:
    return len(given) if isinstance(given, str) else max(len(given[0]), len(given[1]))
