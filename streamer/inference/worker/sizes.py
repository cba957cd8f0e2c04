"""How much one event may ask for. Params multiply: a template with each label, a text with each candidate. What that
comes to is bounded before it is allocated; a token takes some hundred bytes while it is encoded."""

from __future__ import annotations

from typing import Final

from streamer.errors import Code, DataFailure

MAX_ROWS: Final = 1 << 14
MAX_CHARACTERS: Final = 1 << 23
MAX_TOKENS: Final = 1 << 20
MAX_SCORES: Final = 1 << 26
"""Of a whole vocabulary for each of several tokens, in float32."""


def too_large(*, rows: int = 0, characters: int = 0, tokens: int = 0, scores: int = 0) -> DataFailure | None:
    """The failure of an event that asks for more than one computation may hold."""
    for asked, most, unit in (
        (rows, MAX_ROWS, "rows (labels, candidates or windows)"),
        (characters, MAX_CHARACTERS, "characters to read in all its rows"),
        (tokens, MAX_TOKENS, "tokens to compute in all its rows"),
        (scores, MAX_SCORES, "scores (those of a whole vocabulary for each of its masks)"),
    ):
        if asked > most:
            message = f"the event asks for {asked:,} {unit}, and {most:,} is the most: split it into several events"
            return DataFailure(Code.VALIDATE_TOO_LARGE, message)
    return None
