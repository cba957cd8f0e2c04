"""How much of a reference a text has: exact match, F1 of words, ROUGE-L."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from streamer.core.health.quality.counts import Count, ratio

_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_ASCII_WORDS: Final = re.compile(r"[a-z0-9]+")
# Scripts that put no space between words: each character counts as one.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Overlap(msgspec.Struct):
    """Sums over texts that have references: those that match a reference, word F1, ROUGE-L, and the lengths in words of
    the texts and of the references they were held to."""

    texts: Count = 0
    exact: Count = 0
    word_f1: float = 0.0
    rouge_l: float = 0.0
    words: Count = 0
    reference_words: Count = 0

    def include(self, other: Overlap, weight: Count = 1) -> None:
        """Add sums, `weight` times."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + weight * getattr(other, name))

    def add_answer(self, answer: str, references: Sequence[str]) -> float:
        """Count an answer to a question, held to the reference it fits best; returns its word F1. No reference, or an
        empty one, says that there is no answer."""
        known = references or [""]
        best = max(word_f1(answer, one) for one in known)
        self.texts += 1
        self.exact += max(exact_match(answer, one) for one in known)
        self.word_f1 += best
        return best

    def add_text(self, text: str, references: Sequence[str]) -> float:
        """Count a summary, translation or other text, held to the reference it fits best; returns its ROUGE-L."""
        best, closest = max((rouge_l(text, one), -place) for place, one in enumerate(references))
        self.texts += 1
        self.exact += text.strip() in {one.strip() for one in references}
        self.rouge_l += best
        self.words += len(words(text))
        self.reference_words += len(words(references[-closest]))
        return best

    def mean(self, total: float) -> float:
        """One of the sums, per text."""
        return ratio(total, self.texts)

    @property
    def length_ratio(self) -> float:
        """Words of the texts for one of the references."""
        return ratio(self.words, self.reference_words)


def normalised(answer: str) -> str:
    """As SQuAD compares answers: lower case, without ASCII punctuation and English articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> bool:
    """Whether both are the same once they are `normalised`."""
    return normalised(answer) == normalised(reference)


def word_f1(answer: str, reference: str) -> float:
    """F1 of the words that both have, `normalised`. Where one has none it is 1 if neither has any, else 0."""
    mine, theirs = normalised(answer).split(), normalised(reference).split()
    if not mine or not theirs:
        return float(mine == theirs)
    common = sum((Counter(mine) & Counter(theirs)).values())
    return 2 * common / (len(mine) + len(theirs))


def words(text: str) -> list[str]:
    """For ROUGE: lower case, runs of letters and digits; a character each of scripts that put no space between words.
    For ASCII these are the words of the package rouge-score, without its stemmer."""
    low = text.lower()
    if low.isascii():
        return _ASCII_WORDS.findall(low)
    low = unicodedata.normalize("NFC", low)
    kept = "".join(one if unicodedata.category(one)[0] in "LNM" else " " for one in low)
    return _UNSPACED.sub(r" \g<0> ", kept).split()


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words; 0 where one has none."""
    mine, theirs = words(text), words(reference)
    common = longest_common(mine, theirs)
    return ratio(2 * common, len(mine) + len(theirs))


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of their longest common subsequence, a row of the table at a time as the bits of one number (Hyyrö,
    "Bit-parallel LCS-length computation revisited", 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & every
    return len(first) - row.bit_count()
