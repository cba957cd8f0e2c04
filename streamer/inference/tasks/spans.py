"""Characters of a text that tokens stand for, held to its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# What SentencePiece writes for a space; a token of nothing else stands for no character of the text.
_METASPACE = "\u2581"


def visible(text: str, start: int, end: int, piece: str = "") -> tuple[int, int]:
    """The characters without the spaces that many tokenizers count to a token; an empty span where nothing is left.

    A tokenizer that puts a space before the text gives that space the characters of what follows: `piece`, the token's
    own letters, tells it.
    """
    part = text[start:end]
    if piece and not piece.strip(_METASPACE) and _METASPACE not in part:
        return start, start
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def word(text: str, tokens: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """The characters of a tokenizer's word, by those of its tokens, without spaces around them. None where it is no
    word: of spaces alone, or with one within (some tokenizers take the whole text for a word)."""
    spans = [(start, end) for start, end in (visible(text, *token) for token in tokens) if start < end]
    if not spans:
        return None
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return None if any(map(str.isspace, text[first:last])) else (first, last)


def widen_to_words(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters, and those before and behind them up to the next space."""
    while start > 0 and not text[start - 1].isspace():
        start -= 1
    while end < len(text) and not text[end].isspace():
        end += 1
    return start, end


def continues_word(text: str, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each span goes on with the word of the one before it: words are what spaces separate.

    As transformers' token-classification pipeline has it, but that it knows the space alone (a line's end separates
    too), begins a word with every unknown token, and with every token of a character that follows a space.
    """
    inner: list[bool] = []
    last, end = -1, 0
    for place, span in enumerate(spans):
        if span[0] == span[1]:
            inner.append(False)
            continue
        same = last >= 0 and not any(map(str.isspace, text[end : span[0]]))
        inner.append(same)
        if same:
            inner[last + 1 : place] = [True] * (place - last - 1)
        last, end = place, max(end, span[1])
    return inner
