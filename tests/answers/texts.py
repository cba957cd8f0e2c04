"""What the models of the table are asked: texts of one word to more than any of them reads, and pairs."""

from __future__ import annotations

from typing import Any, Final

_KNOWN: Final = (
    "the a parcel film day was is late good bad fine very and but not again rain harbour music we they he she it love "
    "hate buy broke week in of to"
)
WORDS: Final = tuple(_KNOWN.split())
"""What the word tokenizers know."""

Event = tuple[str, str | None, dict[str, Any] | None]
"""A text, its pair, its params."""


def sentence(number: int, words: int) -> str:
    """Words in an order that is another one for each number."""
    return " ".join(WORDS[(7 * number + place * place) % len(WORDS)] for place in range(words))


TEXTS: Final = (
    *(sentence(number, words) for number, words in enumerate((1, 2, 3, 5, 8, 13, 21, 34, 60))),
    "naïve café: 東京の映画 🙂",
    "Good day, Angela Merkel! The film (of 1999) was not bad.",
    " ",
    "",
    sentence(40, 110),
)
"""The last one is longer than the models read."""
WORDED: Final = tuple(text for text in TEXTS if text.strip())
"""For models that read nothing of a text without words."""
PAIRS: Final = (
    (TEXTS[3], TEXTS[4]),
    (TEXTS[7], TEXTS[0]),
    (TEXTS[0], TEXTS[7]),
    (TEXTS[5], ""),
    (TEXTS[9], TEXTS[10]),
    (TEXTS[8], TEXTS[6]),
    (TEXTS[2], TEXTS[-1]),
)
LABELS: Final = ("good film", "rain", "a parcel of music", "映画")
QUESTIONS: Final = ("was it late", "the harbour", "why 東京 ?")


def singles(texts: tuple[str, ...] = TEXTS, **params: Any) -> list[Event]:
    """Each text by itself."""
    return [(text, None, params or None) for text in texts]


def paired() -> list[Event]:
    """Each pair."""
    return [(text, pair, None) for text, pair in PAIRS]


def compared(texts: tuple[str, ...] = TEXTS) -> list[Event]:
    """Pairs, and texts with candidates of many lengths."""
    candidates = [list(LABELS), [TEXTS[7], TEXTS[1], TEXTS[9]], [TEXTS[4]]]
    own: list[Event] = [(text, None, {"candidates": candidates[n % 3]}) for n, text in enumerate(texts)]
    return own + paired()


def labelled(texts: tuple[str, ...] = TEXTS) -> list[Event]:
    """Texts with labels of their own, together and each by itself."""
    chosen = [list(LABELS), list(LABELS[:1]), [LABELS[3], LABELS[1]]]
    return [
        (text, None, {"candidate_labels": chosen[n % 3], "multi_label": n % 2 == 1}) for n, text in enumerate(texts)
    ]


def asked(texts: tuple[str, ...] = WORDED) -> list[Event]:
    """Texts with a question about them."""
    return [(text, None, {"question": QUESTIONS[n % 3]}) for n, text in enumerate(texts)]


def masked(mask: str, texts: tuple[str, ...] = TEXTS[:-1]) -> list[Event]:
    """Texts with one mask or two."""
    return [
        (f"{mask} {text}" if n % 2 else f"{text[: len(text) // 2]} {mask} day {mask}", None, None)
        for n, text in enumerate(texts)
    ]
