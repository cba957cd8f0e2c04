"""Texts to rows of token ids: what a model's files ask of a text, and what is done with one that is too long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.loading import load_tokenizer
from streamer.inference.safety import read_json

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
    """One sequence as the network reads it. `type_ids` is None where all are 0 or the network takes none."""

    ids: list[int]
    type_ids: list[int] | None


class TextTokenizer:
    """A model's fast tokenizer. `max_tokens` is the most that the model reads in one row, special tokens included."""

    def __init__(self, path: Path, config: Any, *, special_as_text: bool = False, keeps_mask: bool = False) -> None:
        """`special_as_text` splits special tokens in a text like any letters; with `keeps_mask` the mask stays one."""
        tokenizer = load_tokenizer(path)
        if not tokenizer.is_fast:
            raise ModelError("the tokenizer of the model has no fast form (tokenizer.json)")
        # A copy of its own: the object is not safe to share between threads.
        copied = tokenizer.backend_tokenizer.to_str()
        self._tokenizer = tokenizers.Tokenizer.from_str(
            _with_plain(copied, tokenizer.mask_token) if keeps_mask else copied
        )
        self._tokenizer.encode_special_tokens = special_as_text
        self.takes_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._lower_case = bool(read_json(path / "sentence_bert_config.json").get("do_lower_case", False))
        self._cut_side: int | None = None
        self.pad_id = int(tokenizer.pad_token_id or 0)
        self.pads_left = tokenizer.padding_side == "left"
        self.mask_token: str | None = tokenizer.mask_token
        self.mask_id: int | None = tokenizer.mask_token_id
        self.cls_id: int | None = tokenizer.cls_token_id
        self.max_tokens = _longest(path, config, int(tokenizer.model_max_length))
        self._tokenizer.no_padding()
        self._truncate()

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

    def cut_only(self, side: int) -> None:
        """From now on cut the text of this side of a pair, or read it in windows, and leave the other whole. Without it
        the longer one is cut, token by token, as plain transformers does."""
        self._cut_side = side
        self._truncate()

    def decode(self, token: int) -> str:
        """A token as text."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def row(self, encoding: tokenizers.Encoding, given: Given) -> Row:
        """What the network reads of an encoding of `given`."""
        return Row(encoding.ids, encoding.type_ids if self.takes_type_ids and isinstance(given, tuple) else None)

    def is_cut(self, encoding: tokenizers.Encoding) -> bool:
        """Whether more of the text lies beyond this encoding."""
        return len(encoding) >= self.max_tokens and bool(encoding.overflowing)

    def encode(self, given: Sequence[Given], *, offsets: bool = False) -> list[tokenizers.Encoding | DataFailure]:
        """All in one call, each cut at `max_tokens`. `offsets` are of characters in `given`, and cost time. Fails for a
        pair whose text that is not cut fills the row."""
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        cut = {index: self._cut(one, limit) for index, one in enumerate(given) if _characters(one) > limit}
        encodings = self._encode_each(
            [cut.get(index, one) for index, one in enumerate(given)] if cut else given, offsets
        )
        for index, part in cut.items():
            encoding = encodings[index]
            if isinstance(encoding, tokenizers.Encoding) and not self._suffices(part, given[index], encoding):
                encodings[index] = self._encode_each([given[index]], offsets)[0]
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
            self._truncate(self._stride(room), self._side(given))
            (first,) = self._encode([given], offsets)
        finally:
            self._truncate()
        return [first, *first.overflowing]

    def _stride(self, room: int) -> int:
        return min(room // 2, _STRIDE_TOKENS)

    def _side(self, given: Given) -> int:
        return self._cut_side or 0 if isinstance(given, tuple) else 0

    def _truncate(self, stride: int = 0, side: int | None = None) -> None:
        side = self._cut_side if side is None else side
        strategy = "longest_first" if side is None else ("only_first", "only_second")[side]
        self._tokenizer.enable_truncation(self.max_tokens, stride=stride, strategy=strategy)

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
        if isinstance(given, str):
            return given[:limit]
        first, second = given
        return first if self._cut_side == 1 else first[:limit], second if self._cut_side == 0 else second[:limit]

    def _suffices(self, part: Given, given: Given, encoding: tokenizers.Encoding) -> bool:
        """Whether a text that was cut by its characters is read as the whole one: it may have many a token. Where
        the longer text of a pair is cut by its tokens, each that was cut by characters must fill the row."""
        if not encoding.overflowing:
            return False
        if isinstance(part, str) or self._cut_side is not None:
            return True
        cut = [one for one, whole in zip(part, given, strict=True) if len(one) < len(whole)]
        # A word of letters is a token at least.
        doubtful = [one for one in cut if sum(map(str.isalnum, one.split())) < self.max_tokens]
        return all(one.overflowing for one in self._encode(doubtful, offsets=False))

    def _encode(self, given: Sequence[Given], offsets: bool) -> list[tokenizers.Encoding]:
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        encodings: list[tokenizers.Encoding] = encode(given)
        return encodings


def _with_plain(tokenizer: str, token: str) -> str:
    """A tokenizer.json where this token is added, but not special."""
    content = msgspec.json.decode(tokenizer)
    for added in content["added_tokens"]:
        added["special"] &= added["content"] != token
    return msgspec.json.encode(content).decode()


def _longest(path: Path, config: Any, tokenizer_limit: int) -> int:
    """The least of what tokenizer, position table and sentence-transformers file allow."""
    limits = [tokenizer_limit, _NO_LIMIT]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        limits.append(positions - ((config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0))
    declared = read_json(path / "sentence_bert_config.json").get("max_seq_length")
    if isinstance(declared, int) and declared > 0:
        limits.append(declared)
    return min(limits)


def _characters(given: Given) -> int:
    return len(given) if isinstance(given, str) else max(len(given[0]), len(given[1]))
