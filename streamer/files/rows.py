"""Rows of files as events: JSON lines, plain texts, CSV and Parquet, plain or compressed, one file after the other.

Without `Fields` JSON lines are events already, and go on byte by byte.
"""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import msgspec

from streamer.errors import DependencyError, UsageError
from streamer.files.cut import LongLine, cut
from streamer.files.row import Fields, Row, event_of
from streamer.files.table_rows import csv_rows, parquet_rows
from streamer.files.tables import arrow_for

__all__ = ["FORMATS", "STDIN", "Fields", "Format", "Row", "Rows", "event_of", "format_of", "output_format"]

Format = Literal["jsonl", "text", "csv", "parquet"]

FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".csv": "csv",
    ".parquet": "parquet",
}
STDIN: Final = "-"


def format_of(path: str) -> Format | None:
    """The format by a file's suffix, apart from one for compression; None where that says nothing."""
    suffixes = Path(path).suffixes
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    return FORMATS.get(suffixes[-1].lower()) if suffixes else None


_NOT_WRITTEN: Final = frozenset(
    {".xlsx", ".xls", ".ods", ".tsv", ".feather", ".arrow", ".avro", ".orc", ".xml", ".html", ".gz", ".zst", ".zip"}
)


def output_format(path: str) -> Format | None:
    """The same for a file to write; raises UsageError for a suffix that promises what is not written."""
    if (suffix := Path(path).suffix.lower()) in _NOT_WRITTEN:
        raise UsageError(f"{path}: {suffix} files are not written; name it .jsonl, .csv or .parquet")
    return format_of(path)


class Rows:
    """The rows of several files in their order. Raises UsageError for what is not of its format or has not the columns
    that are asked for, and DependencyError, which names the file, for what can't be read to its end."""

    def __init__(self, paths: Sequence[str], stdin: BinaryIO, format_: Format | None, fields: Fields) -> None:
        self._paths = paths
        self._stdin = stdin
        self._format = format_
        self._fields = fields
        self._number = -1
        self._open: Iterator[list[Row]] | None = None
        self._waiting: deque[Row] = deque()
        self._position: Callable[[], int] = lambda: 0
        self._before_bytes = 0
        self._to_skip = 0
        self.given = 0
        """How many rows were read or left out so far."""
        self._sizes = [0 if path == STDIN else Path(path).stat().st_size for path in paths]
        self.total_bytes = sum(self._sizes)

    @property
    def read_bytes(self) -> int:
        """How much of the files is read, compressed as they lie there; of `total_bytes`, which is 0 for a pipe."""
        try:
            return min(self._before_bytes + self._position(), self.total_bytes)
        except ValueError:  # the file was closed just now
            return self._before_bytes

    def open(self) -> None:
        """Look at the first file, so that what is wrong with it is said before a model is loaded. Standard input is
        left alone: nobody may have written there yet."""
        if self._number < 0 and self._paths[0] != STDIN:
            self._fill()

    def read(self, most: int, most_bytes: int) -> list[Row]:
        """The next rows, as many as are there: it waits only for the first. None at the end."""
        rows: list[Row] = []
        size_bytes = 0
        while not rows:
            while self._waiting and len(rows) < most and size_bytes < most_bytes:
                row = self._waiting.popleft()
                size_bytes += len(row.value or b"")
                rows.append(row)
            if not rows and not self._fill():
                return []
        self.given += len(rows)
        return rows

    def skip(self, rows: int) -> int:
        """Leave out the first rows, of which no events are made; returns how many there were."""
        skipped = 0
        self._to_skip = rows
        while self._to_skip and (some := self.read(self._to_skip, 1 << 62)):
            skipped += len(some)
            self._to_skip -= len(some)
        self._to_skip = 0
        return skipped

    def _skips(self, rows: int) -> bool:
        """Whether the next so many are all left out. Asked when none waits."""
        return rows <= self._to_skip

    def _fill(self) -> bool:
        while True:
            if self._open is None:
                if self._number + 1 == len(self._paths):
                    return False
                self._number += 1
                self._open = self._rows_of(self._paths[self._number])
            chunk = self._next(self._open)
            if chunk is None:
                self._open, self._position = None, lambda: 0
                self._before_bytes += self._sizes[self._number]
            elif chunk:
                self._waiting.extend(chunk)
                return True

    def _next(self, rows: Iterator[list[Row]]) -> list[Row] | None:
        try:
            return next(rows, None)
        except (OSError, EOFError, zlib.error) as error:
            path = self._paths[self._number]
            name = "standard input" if path == STDIN else path
            if isinstance(error, OSError) and error.strerror:
                raise DependencyError(f"{name} can't be read ({error.strerror})") from error
            raise DependencyError(
                f"{name} can't be read to its end ({error}): it may be damaged, or not complete yet"
            ) from error

    def _rows_of(self, path: str) -> Iterator[list[Row]]:
        kind = self._format or format_of(path) or "jsonl"
        if kind == "parquet":
            yield from parquet_rows(path, self._number, self._fields, self._skips)
            return
        with ExitStack() as after:
            if path == STDIN:
                file = self._stdin
            else:
                file = after.enter_context(Path(path).open("rb"))
                self._position = file.tell
            stream = _unpacked(path, file)
            if stream is not file:
                after.callback(stream.close)
            if kind == "jsonl":
                _no_array(path, stream)
            if kind == "csv":
                yield from csv_rows(path, stream, self._number, self._fields)
            else:
                yield from _lines(path, stream, self._number, kind, self._fields, self._skips)


def _no_array(path: str, stream: BinaryIO) -> None:
    """Raises UsageError for a file that is one JSON array, which some programs call .json, too."""
    if ".json" in Path(path).suffixes and hasattr(stream, "peek") and stream.peek(64)[:64].lstrip().startswith(b"["):
        raise UsageError(f"{path} is a JSON array, not JSON lines: jq -c '.[]' makes lines of it")


_MAGIC: Final = {
    ".gz": (b"\x1f\x8b",),
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))),
}
"""How a packed file begins (RFC 1952; RFC 8878, with its skippable frames)."""


def _unpacked(path: str, file: BinaryIO) -> BinaryIO:
    magic = next((found for suffix, found in _MAGIC.items() if path.endswith(suffix)), None)
    first = file.peek(4)[:4] if magic and isinstance(file, BufferedReader) else b""
    if magic and first and not first.startswith(magic):
        raise UsageError(f"{path} is no {Path(path).suffix} file by its first bytes: rename it, or pack it again")
    if path.endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if path.endswith(".zst"):
        return cast(BinaryIO, arrow_for(Path(path)).CompressedInputStream(file, "zstd"))
    return file


# --- lines -----------------------------------------------------------------------------------------------------------


def _lines(
    path: str, stream: BinaryIO, file: int, kind: Format, fields: Fields, skips: Callable[[int], bool]
) -> Iterator[list[Row]]:
    make = _as_text if kind == "text" else _picker(fields) if fields.asked else _as_it_is
    number = 0
    for chunk in cut(path, stream):
        rows = []
        if skips(len(chunk)):
            yield [Row(b"", file, number + count) for count in range(1, len(chunk) + 1)]
            number += len(chunk)
            continue
        for line in chunk:
            number += 1
            if isinstance(line, LongLine):
                rows.append(Row(None, file, number, line.failure))
            else:
                rows.append(Row(make(line.removesuffix(b"\r")), file, number))
        yield rows


def _as_it_is(line: bytes) -> bytes:
    return line


def _as_text(line: bytes) -> bytes:
    """A line that is no UTF-8 goes on as it is: it is refused where it is decoded, as an event would be."""
    try:
        return msgspec.json.encode({"text": line.decode()})
    except UnicodeDecodeError:
        return line


def _picker(fields: Fields) -> Callable[[bytes], bytes]:
    """What makes an event of a JSON object. What is no object goes on as it is, and is refused where it is decoded."""
    decode = msgspec.json.Decoder().decode

    def pick(line: bytes) -> bytes:
        try:
            found = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return line
        return event_of(found, fields) if isinstance(found, dict) else line

    return pick
