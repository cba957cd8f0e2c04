"""Texts to rows of token ids: what a model's files ask of a text, and what is done with one that is too long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
from tokenizers import normalizers

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.models.loading import load_tokenizer
from streamer.inference.models.text_reader import unguessable, with_names
from streamer.inference.models.transformer_file import Layout
from streamer.inference.models.unknown_tokens import of_backend
from streamer.inference.worker.sizes import too_large

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
    """One sequence as the network reads it. `type_ids` is None where all are 0 or the network takes none. `left_out`
    are its first tokens, of a prompt, that the network reads and a pooling leaves out."""

    ids: list[int]
    type_ids: list[int] | None
    left_out: int = 0


class TextTokenizer:
    """A model's fast tokenizer. `max_tokens` is the most that the model reads in one row, special tokens included.

    `pad_id` and `pads_left` say how rows are padded; whoever runs the network sets what suits it.
    """

    def __init__(
        self, path: Path, layout: Layout | None = None, *, special_as_text: bool = False, keeps_mask: bool = False
    ) -> None:
        """`layout` says what files beside the tokenizer's ask of a text. `special_as_text` splits special tokens in a
        text like any letters; with `keeps_mask` the mask stays one."""
        layout = layout or Layout()
        tokenizer = load_tokenizer(path, fast=True)
        # A copy of its own: the object is not safe to share between threads.
        self._tokenizer = self._decoder = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        if special_as_text:
            kept = {tokenizer.mask_token} if keeps_mask else set()
            letters = {one.content for one in tokenizer.added_tokens_decoder.values() if one.special} - kept
            self._tokenizer = with_names(self._tokenizer, unguessable(letters))
        # Of the file, and as plain transformers does it; a tokenizer's own text has no place for it.
        self._tokenizer.encode_special_tokens = bool(tokenizer.split_special_tokens)
        self.takes_type_ids = "token_type_ids" in tokenizer.model_input_names
        if layout.lower_case:
            _lower_case(self._tokenizer)
        self._cut_side: int | None = None
        self._cut_left = tokenizer.truncation_side == "left"
        self.size = len(tokenizer)
        self.pad_id: int | None = tokenizer.pad_token_id
        self.pads_left = tokenizer.padding_side == "left"
        self.mask_token: str | None = tokenizer.mask_token
        self.mask_id: int | None = tokenizer.mask_token_id
        self.cls_id: int | None = tokenizer.cls_token_id
        self.special_ids = frozenset[int](tokenizer.all_special_ids)
        self.unknown = of_backend(self._tokenizer)
        self._known_tokens: int | None = None
        self.max_tokens = min(layout.max_tokens or int(tokenizer.model_max_length), NO_LIMIT)
        least = 1 + self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if self.max_tokens < least:
            raise ModelError(
                f"the tokenizer in {path} may give {self.max_tokens} tokens, by model_max_length of "
                f"tokenizer_config.json or max_seq_length of sentence-transformers; a text takes {least} at least"
            )
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

    @property
    def overlap(self) -> int:
        """Tokens that a window of a text without pair shares with the one before it."""
        return self._stride(self.max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False))

    @property
    def marks_subwords(self) -> bool:
        """Whether a piece that goes on with a word is marked, as `##` does."""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))

    def cut_only(self, side: int) -> None:
        """From now on cut the text of this side of a pair, or read it in windows, and leave the other whole. Without it
        the longer one is cut, token by token, as plain transformers does."""
        self._cut_side = side
        self._truncate()

    def decode(self, token: int) -> str:
        """A token as text."""
        return self._decoder.decode([token], skip_special_tokens=False)

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
        known = self._known_tokens or self._tokenizer.get_vocab_size()
        drawn = np.random.default_rng(seed).integers(0, known, tokens)
        return self._decoder.decode(drawn.tolist(), skip_special_tokens=True)

    def is_cut(self, encoding: tokenizers.Encoding) -> bool:
        """Whether more of the text lies beyond this encoding."""
        return len(encoding) >= self.max_tokens and bool(encoding.overflowing)

    def encode(self, given: Sequence[Given], *, offsets: bool = False) -> list[tokenizers.Encoding | DataFailure]:
        """All in one call, each cut at `max_tokens`. `offsets` are of characters in `given`, and cost time. Fails for a
        pair whose text that is not cut fills the row."""
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        # Offsets count from a text's first character, so that it must stay where they are asked for.
        cuts = not (offsets and self._cut_left)
        cut = {index: self._cut(one, limit) for index, one in enumerate(given) if cuts and _characters(one) > limit}
        encodings = self._encode_each(
            [cut.get(index, one) for index, one in enumerate(given)] if cut else given, offsets
        )
        for index, part in cut.items():
            encoding = encodings[index]
            # It may have many characters a token, and a word that the cut divided may end it.
            short = isinstance(encoding, tokenizers.Encoding) and len(encoding.overflowing) < 2
            if short and part != given[index]:
                encodings[index] = self._encode_each([given[index]], offsets)[0]
        return encodings

    def characters_read(self, given: Given) -> int:
        """How many of a row's characters are tokenised, where windows are not asked for."""
        part = self._cut(given, self.max_tokens * _CHARACTERS_A_TOKEN)
        return len(part) if isinstance(part, str) else len(part[0]) + len(part[1])

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
            stride = self._stride(room)
            count = 1 + -(-max(0, len(whole) - self.max_tokens) // (room - stride))
            if (failure := too_large(rows=count, tokens=count * self.max_tokens)) is not None:
                return failure
            self._truncate(stride, self._side(given), left=False)
            (first,) = self._encode([given], offsets)
        finally:
            self._truncate()
        return [first, *first.overflowing]

    def _stride(self, room: int) -> int:
        return min(room // 2, _STRIDE_TOKENS)

    def _side(self, given: Given) -> int:
        return self._cut_side or 0 if isinstance(given, tuple) else 0

    def _truncate(self, stride: int = 0, side: int | None = None, *, left: bool | None = None) -> None:
        side = self._cut_side if side is None else side
        strategy = "longest_first" if side is None else ("only_first", "only_second")[side]
        direction = "left" if (self._cut_left if left is None else left) else "right"
        self._tokenizer.enable_truncation(self.max_tokens, stride=stride, strategy=strategy, direction=direction)

    def _encode_each(self, given: Sequence[Given], offsets: bool) -> list[tokenizers.Encoding | DataFailure]:
        """One by one where a pair can't be cut: the library then encodes none."""
        try:
            return list(self._encode(given, offsets))
        except Exception as error:  # the library's own class is the base of all
            if self._cut_side is None or "Truncation error" not in str(error):
                raise
        if len(given) == 1:
            message = (
                f"what is asked of the text leaves it no room in the {self.max_tokens} tokens that the model reads"
            )
            return [DataFailure(Code.INFER_TOO_LONG, message)]
        return [self._encode_each([one], offsets)[0] for one in given]

    def _cut(self, given: Given, limit: int) -> Given:
        """Enough of a text to fill a row. Where either text of a pair may be cut by its tokens, how much of each is
        kept hangs on which has more of them: one is cut here only if it surely keeps more than the other has."""
        if isinstance(given, str):
            return self._part(given, limit)
        first, second = given
        if self._cut_side is None:
            parts = [self._part(one, limit) for one in given]
            for part, whole, other in zip(parts, given, reversed(given), strict=True):
                # A word of letters is a token at least, a character four at most.
                if part != whole and _words(part) <= max(self.max_tokens, 4 * len(other)):
                    return given
            return parts[0], parts[1]
        return (self._part(first, limit), second) if self._cut_side == 0 else (first, self._part(second, limit))

    def _part(self, text: str, limit: int) -> str:
        return text[-limit:] if self._cut_left else text[:limit]

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


def _words(text: str) -> int:
    return sum(map(str.isalnum, text.split()))


def _characters(given: Given) -> int:
    return len(given) if isinstance(given, str) else max(len(given[0]), len(given[1]))
