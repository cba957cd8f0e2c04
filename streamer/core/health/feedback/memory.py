"""What the app remembers of feedback, as bytes, and as records that together are one snapshot."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import msgspec

from streamer.core.health.feedback.join import Joined
from streamer.core.health.words import FeedbackWord, PartWord

VERSION: Final = 1
PART_BYTES: Final = 600_000
"""The size of a part, before it becomes base64 in a record."""


class Memory(msgspec.Struct, array_like=True):
    """All that came of feedback whose offsets are below `upto` (by partition), but for what waits."""

    version: int
    upto: dict[int, int]
    joined: Joined


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode


def packed(upto: dict[int, int], joined: Joined) -> bytes:
    """All of it as bytes. They are too many for one record: see `split`."""
    return _encode(Memory(VERSION, upto, joined))


def unpacked(content: bytes) -> Memory | None:
    """What was packed and split; None for other bytes, and for those of another version."""
    try:
        found = _decode(zlib.decompress(content))
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.version == VERSION else None


def split(topic: str, snapshot: str, time_ms: int, content: bytes) -> tuple[list[PartWord], FeedbackWord]:
    """The parts to write, and the word to write when they are there."""
    small = zlib.compress(content, level=1)
    pieces = [small[place : place + PART_BYTES] for place in range(0, len(small), PART_BYTES)]
    parts = [
        PartWord(topic=topic, snapshot=snapshot, index=index, time_ms=time_ms, content=piece)
        for index, piece in enumerate(pieces)
    ]
    return parts, FeedbackWord(topic=topic, snapshot=snapshot, parts=len(parts), time_ms=time_ms)


def assembled(word: FeedbackWord, parts: Iterable[PartWord]) -> bytes | None:
    """What a word names, put together from whatever parts there are; None where one is missing."""
    found = {part.index: part.content for part in parts if part.snapshot == word.snapshot}
    if any(index not in found for index in range(word.parts)):
        return None
    return b"".join(found[index] for index in range(word.parts))
