"""Which recorded pass of a packed encoder serves another one: pure, without torch.

A recorded pass has fixed shapes, and the kernel of its attention has the longest sequence built in. So passes are
filled up to a bucket's tokens and sequences, with sequences of padding behind the real ones; each has at least one
token and at most as many as the bucket's longest, so that no kernel meets one that is empty or too long.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MOST_TOKENS: Final = 16384
"""A larger pass keeps a GPU busy for longer than its launches take."""
_FEWEST_TOKENS: Final = 64
_STEPS: Final = 8
"""Buckets of tokens for each doubling, so that at most an eighth of a pass is padding, beside its sequences' own."""
_FEWEST_SEQUENCES: Final = 2
_SHORTEST: Final = 16
_TRIES: Final = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PassBucket:
    """What passes must share to share a recording. `longest` is that of the bucket, not of a pass."""

    tokens: int
    sequences: int
    longest: int


def bucket_of(tokens: int, sequences: int, longest: int) -> PassBucket | None:
    """The bucket of a pass of so many `sequences`, with so many `tokens` in all and in the `longest` of them; None for
    one that is better run as it is."""
    reach = _doubled(_SHORTEST, longest)
    room = _doubled(_FEWEST_SEQUENCES, sequences)
    for _ in range(_TRIES):
        added = room - sequences
        size = _tokens(tokens + added)
        if size > MOST_TOKENS:
            return None
        if size - tokens <= added * reach:  # with no sequence added, no token is
            return PassBucket(size, room, reach)
        room *= 2
    return None


def padding_of(bucket: PassBucket, tokens: int, sequences: int) -> list[int]:
    """The lengths of the sequences of padding that fill a pass up to its bucket."""
    count, spare = bucket.sequences - sequences, bucket.tokens - tokens
    if not count:
        return []
    least, more = divmod(spare, count)
    return [least + 1] * more + [least] * (count - more)


class KeptGraphs(Generic[T]):
    """Recordings by key, at most `most`: the one that was not used for longest goes first. Once those that were made
    took more than `most_bytes`, no more are made.

    A key's first `after` passes are run as they are: most keys of a stream come once, and a recording costs as much as
    a hundred passes.
    """

    def __init__(self, most: int, most_bytes: int, after: int) -> None:
        self.after = after
        self._most = most
        self._most_bytes = most_bytes
        self._made_bytes = 0
        self._kept: OrderedDict[object, T] = OrderedDict()
        self._seen: Counter[object] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: object) -> T | None:
        """The recording, which is now the last that was used."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def wants(self, key: object) -> bool:
        """Whether one is to be made for this pass, which has none."""
        if self._made_bytes > self._most_bytes:
            return False
        self._seen[key] += 1
        return self._seen[key] > self.after

    def make_room(self) -> None:
        """Before one is made."""
        while len(self._kept) >= self._most:
            key, _ = self._kept.popitem(last=False)
            del self._seen[key]  # it has to come as often again

    def put(self, key: object, recording: T, made_bytes: int) -> None:
        """Keep one that took so much memory."""
        self._made_bytes += made_bytes
        self._kept[key] = recording

    def clear(self) -> None:
        """Let all go, and their memory."""
        self._kept.clear()
        self._seen.clear()
        self._made_bytes = 0


def _doubled(least: int, value: int) -> int:
    """The first of least, 2 least, 4 least … that is not below."""
    while least < value:
        least *= 2
    return least


def _tokens(value: int) -> int:
    """The first bucket that is not below."""
    whole = 1 << max(0, value - 1).bit_length()
    step = max(_FEWEST_TOKENS, whole // 2 // _STEPS)
    return max(1, -(-value // step)) * step
