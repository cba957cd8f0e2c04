"""What a worker measures of an answer beside its output, in a few bytes that travel with it.

It belongs to one answer, never to a forward batch: a report counts records that are settled, and those of one batch may
be settled in several plans, or not at all. Little endian: tokens that the tokenizer does not know (4 bytes); the bins
of margin, entropy and repetition (a byte each, `ABSENT` for none); then, of a vector, the bin of each of its
projections (`PROJECTIONS` bytes). An answer without any of them has none, b"".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

ABSENT: Final = 255
SHARE_BINS: Final = 20
"""Equal bins of [0, 1], of margin, entropy and repetition."""
PROJECTIONS: Final = 32
PROJECTION_BINS: Final = 16
PROJECTION_RANGE: Final = 3.0
"""The bins are equal, from minus this to this; what lies outside counts in the outermost. A projection is the sum of a
vector's numbers with random signs, divided by its norm: its standard deviation is 1 over random directions."""

_HEAD: Final = struct.Struct("<IBBB")
HEAD_BYTES: Final = _HEAD.size
VECTOR_BYTES: Final = HEAD_BYTES + PROJECTIONS


def share_bin(share: float) -> int:
    """The bin of a share; 1.0 falls in the last."""
    return min(max(int(share * SHARE_BINS), 0), SHARE_BINS - 1)


def pack(unknown: int, margin: int = ABSENT, entropy: int = ABSENT, repetition: int = ABSENT) -> bytes:
    """The measures of one answer."""
    if not unknown and margin == entropy == repetition == ABSENT:
        return b""
    return _HEAD.pack(unknown, margin, entropy, repetition)


def repetition_bin(tokens: Sequence[int]) -> int:
    """The bin of the share of trigrams that were there before; `ABSENT` for fewer than three tokens."""
    count = len(tokens) - 2
    if count < 1:
        return ABSENT
    return share_bin(1 - len(set(zip(tokens, tokens[1:], tokens[2:], strict=False))) / count)


def are_measures(found: bytes) -> bool:
    """Whether these bytes, which may come from where others write, are measures or none."""
    if not found:
        return True
    if len(found) not in (HEAD_BYTES, VECTOR_BYTES):
        return False
    _, *bins = _HEAD.unpack_from(found)
    if any(one != ABSENT and one >= SHARE_BINS for one in bins):
        return False
    return max(found[HEAD_BYTES:], default=0) < PROJECTION_BINS


class AnswerMeasures:
    """Sums over the measures of answers."""

    def __init__(self) -> None:
        self._heads: list[bytes] = []
        self._vectors: list[bytes] = []

    def add(self, found: list[bytes]) -> None:
        """Count these, none of them b""."""
        self._heads += [one[:HEAD_BYTES] for one in found]
        self._vectors += [one[HEAD_BYTES:] for one in found if len(one) == VECTOR_BYTES]

    def unknown_tokens(self) -> int:
        """Their sum."""
        heads = b"".join(self._heads)
        return sum(sum(heads[place::HEAD_BYTES]) << (8 * place) for place in range(4))

    def shares(self) -> tuple[list[int] | None, list[int] | None, list[int] | None]:
        """The bins of margin, entropy and repetition; None where no answer has one."""
        heads = b"".join(self._heads)
        margin, entropy, repetition = (_bins(heads[place::HEAD_BYTES], SHARE_BINS) for place in range(4, HEAD_BYTES))
        return margin, entropy, repetition

    def projections(self) -> list[list[int]]:
        """The bins of each; none where there are no vectors."""
        vectors = b"".join(self._vectors)
        columns = [vectors[place::PROJECTIONS] for place in range(PROJECTIONS)] if vectors else []
        return [_bins(column, PROJECTION_BINS) or [] for column in columns]


def _bins(found: bytes, count: int) -> list[int] | None:
    """Counting bytes one value at a time is a search in C."""
    bins = [found.count(number) for number in range(count)]
    return bins if any(bins) else None
