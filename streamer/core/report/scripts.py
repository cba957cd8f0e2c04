"""The script that most of a text's letters are of."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

NONE: Final = "none"
OTHER: Final = "other"
LOOKED_AT: Final = 64
"""Characters of a text's beginning."""

# By the first word of a letter's name in Unicode.
_SCRIPTS: Final = {
    "LATIN": "latin",
    "CYRILLIC": "cyrillic",
    "GREEK": "greek",
    "ARABIC": "arabic",
    "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari",
    "CJK": "han",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "KATAKANA-HIRAGANA": "kana",
    "HANGUL": "hangul",
    "THAI": "thai",
}
SCRIPTS: Final = (*dict.fromkeys(_SCRIPTS.values()), OTHER, NONE)


def main_script(text: str) -> str:
    """One of `SCRIPTS`: of the first letters, `none` where there are none."""
    seen = text[:LOOKED_AT]
    if seen.isascii():
        return "latin" if any(map(str.isalpha, seen)) else NONE
    counts = Counter(map(_script, seen))
    counts.pop(NONE, None)
    return max(counts, key=counts.__getitem__) if counts else NONE


@lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    if not letter.isalpha():
        return NONE
    name, _, _ = unicodedata.name(letter, "").partition(" ")
    return _SCRIPTS.get(name, OTHER)
