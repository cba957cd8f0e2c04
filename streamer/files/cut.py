"""Cuts a stream of bytes into lines, and never holds one whole that is longer than a line may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from streamer.errors import Code, DataFailure, UsageError

MAX_LINE_BYTES: Final = 16 << 20
CHUNK_BYTES: Final = 1 << 18
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class LongLine(NamedTuple):
    """A line that was longer than MAX_LINE_BYTES; of its bytes only this is known."""

    size_bytes: int
    quotes: int

    @property
    def failure(self) -> DataFailure:
        """What becomes of its row."""
        return DataFailure(
            Code.VALIDATE_TOO_LARGE,
            f"The line has {self.size_bytes:,} bytes and was not kept; a line may have {MAX_LINE_BYTES:,}: split it.",
        )


def cut(path: str, stream: BinaryIO) -> Iterator[list[bytes | LongLine]]:
    """The lines of each piece that comes, without their newlines, and without a byte order mark at the start. Raises
    UsageError for UTF-16."""
    read = getattr(stream, "read1", stream.read)
    parts: list[bytes] = []  # of a line whose end did not come yet
    size_bytes = quotes = 0
    chunk: bytes = read(CHUNK_BYTES)
    if chunk.startswith(_UTF16_MARKS):
        raise UsageError(f"{path} is in UTF-16: save it as UTF-8 first")
    chunk = chunk.removeprefix(_UTF8_MARK) or read(CHUNK_BYTES)
    while chunk:
        first, *others = chunk.split(b"\n")
        size_bytes += len(first)
        if size_bytes <= MAX_LINE_BYTES:
            parts.append(first)
        else:
            quotes += sum(part.count(b'"') for part in (*parts, first))
            parts.clear()
        if others:
            *whole, rest = others
            yield [_line(parts, size_bytes, quotes), *whole]
            parts, size_bytes, quotes = [rest], len(rest), 0
        chunk = read(CHUNK_BYTES)
    if size_bytes:
        yield [_line(parts, size_bytes, quotes)]


def _line(parts: list[bytes], size_bytes: int, quotes: int) -> bytes | LongLine:
    return b"".join(parts) if size_bytes <= MAX_LINE_BYTES else LongLine(size_bytes, quotes)
