"""Rows of files as events: JSON lines, plain texts, CSV and Parquet, plain or compressed, one file after the other.

`Fields` says where the text, the id and what is passed through stand. Without it JSON lines are events already, and
go on byte by byte.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, cast

import msgspec

from streamer.errors import UsageError
from streamer.extras import install_command

Format = Literal["jsonl", "text", "csv", "parquet"]

FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".csv": "csv",
    ".parquet": "parquet",
}
MAX_LINE_BYTES: Final = 16 << 20
CHUNK_BYTES: Final = 1 << 18
PARQUET_ROWS: Final = 1024
STDIN: Final = "-"

_EVENT_FIELDS: Final = ("id", "text_pair", "params", "metadata")


class Row(NamedTuple):
    """`value` is an event as a topic would have it; None where a line was too long to be read. `line` counts from 1 in
    its file; in a table it is the row, without the header."""

    value: bytes | None
    file: int
    line: int


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of columns, or paths of dots into JSON objects. `keep` are passed through to the result's `metadata`;
    "*" is all. `whole` rows go on as JSON objects, for whoever makes events of them."""

    text: str = ""
    id: str = ""
    keep: tuple[str, ...] = ()
    whole: bool = False

    @property
    def named(self) -> bool:
        """Whether there is any."""
        return bool(self.text or self.id or self.keep)

    @property
    def asked(self) -> bool:
        """Whether events have to be made of JSON objects."""
        return self.named and not self.whole


def format_of(path: str) -> Format | None:
    """By its suffix, without one for compression; None where that tells nothing."""
    suffixes = Path(path).suffixes
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    return FORMATS.get(suffixes[-1].lower()) if suffixes else None


class Rows:
    """The rows of several files in their order. Raises UsageError for what can't be opened or has not the columns that
    are asked for, and OSError while it reads."""

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
        self._sizes = [0 if path == STDIN else Path(path).stat().st_size for path in paths]
        self.total_bytes = sum(self._sizes)

    @property
    def read_bytes(self) -> int:
        """How much of the files is read, compressed as they lie there; of `total_bytes`, which is 0 for a pipe."""
        try:
            return min(self._before_bytes + self._position(), self.total_bytes)
        except ValueError:  # the file was closed just now
            return self._before_bytes

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
        return rows

    def skip(self, rows: int) -> int:
        """Leave out the first rows; returns how many there were."""
        skipped = 0
        while skipped < rows and (some := self.read(rows - skipped, 1 << 62)):
            skipped += len(some)
        return skipped

    def _fill(self) -> bool:
        while True:
            if self._open is None:
                if self._number + 1 == len(self._paths):
                    return False
                self._number += 1
                self._open = self._rows_of(self._paths[self._number])
            chunk = next(self._open, None)
            if chunk is None:
                self._open, self._position = None, lambda: 0
                self._before_bytes += self._sizes[self._number]
            elif chunk:
                self._waiting.extend(chunk)
                return True

    def _rows_of(self, path: str) -> Iterator[list[Row]]:
        kind = self._format or format_of(path) or "jsonl"
        if kind == "parquet":
            yield from _parquet(path, self._number, self._fields)
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
            if kind == "csv":
                yield from _csv(path, stream, self._number, self._fields)
            else:
                yield from _lines(stream, self._number, kind, self._fields)


def _unpacked(path: str, file: BinaryIO) -> BinaryIO:
    if path.endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if path.endswith(".zst"):
        return cast(BinaryIO, _arrow(path).CompressedInputStream(file, "zstd"))
    return file


def _arrow(path: str) -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UsageError(f"{path} needs pyarrow; install it with {install_command('parquet')}") from None
    return pyarrow


# --- lines -----------------------------------------------------------------------------------------------------------


def _lines(stream: BinaryIO, file: int, kind: Format, fields: Fields) -> Iterator[list[Row]]:
    make = _as_text if kind == "text" else _picker(fields) if fields.asked else _as_it_is
    number = 0
    for chunk in _cut(stream):
        rows = []
        for line in chunk:
            number += 1
            rows.append(Row(None if line is None else make(line), file, number))
        yield rows


def _cut(stream: BinaryIO) -> Iterator[list[bytes | None]]:
    """The lines of each piece that comes, without their ends; None for one that is longer than MAX_LINE_BYTES, which is
    never held in memory whole."""
    read = getattr(stream, "read1", stream.read)
    parts: list[bytes] = []  # of a line whose end did not come yet
    size_bytes = 0
    while chunk := read(CHUNK_BYTES):
        first, *others = chunk.split(b"\n")
        size_bytes += len(first)
        if size_bytes <= MAX_LINE_BYTES:
            parts.append(first)
        if not others:
            continue
        *whole, rest = others
        yield [_joined(parts, size_bytes), *(line.removesuffix(b"\r") for line in whole)]
        parts, size_bytes = [rest], len(rest)
    if size_bytes:
        yield [_joined(parts, size_bytes)]


def _joined(parts: list[bytes], size_bytes: int) -> bytes | None:
    return b"".join(parts).removesuffix(b"\r") if size_bytes <= MAX_LINE_BYTES else None


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


def event_of(row: dict[str, Any], fields: Fields) -> bytes:
    """The event that a row makes: its text, id and what is kept; `text_pair` and `params` by their own names."""
    if fields.whole:
        return msgspec.json.encode(row, enc_hook=str)
    event: dict[str, Any] = {name: row[name] for name in _EVENT_FIELDS if row.get(name) not in (None, "")}
    event["text"] = at(row, fields.text or "text")
    if fields.id:
        event["id"] = at(row, fields.id)
    if fields.keep:
        names = [name for name in row if name != fields.text] if "*" in fields.keep else list(fields.keep)
        event["metadata"] = {name: at(row, name) for name in names}
    return msgspec.json.encode(event, enc_hook=str)


def at(row: dict[str, Any], path: str) -> Any:
    """A column of this name, else what stands at the path of dots; None where nothing does."""
    if path in row:
        return row[path]
    found: Any = row
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


# --- tables ----------------------------------------------------------------------------------------------------------


def _csv(path: str, stream: BinaryIO, file: int, fields: Fields) -> Iterator[list[Row]]:
    """RFC 4180 with a header, in UTF-8. A row that has more or fewer columns than the header is refused as an event."""
    text = io.TextIOWrapper(cast(Any, stream), encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(text, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        _has_columns(path, header, fields)
        batch: list[Row] = []
        for number, values in enumerate(rows, 1):
            batch.append(Row(_of_table(header, values, fields), file, number))
            if len(batch) == PARQUET_ROWS:
                yield batch
                batch = []
        yield batch
    except csv.Error as error:
        raise UsageError(f"{path}, line {rows.line_num}: it is no CSV ({error})") from None
    finally:
        text.detach()


def _of_table(header: list[str], values: list[str], fields: Fields) -> bytes:
    if len(values) != len(header):
        return b""
    try:
        return event_of(dict(zip(header, values, strict=True)), fields)
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return ",".join(values).encode("utf-8", "surrogateescape")


def _parquet(path: str, file: int, fields: Fields) -> Iterator[list[Row]]:
    if path == STDIN:
        raise UsageError("Parquet can't be read from standard input: name a file")
    arrow = _arrow(path)
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as table:
            _has_columns(path, table.schema_arrow.names, fields)
            number = 0
            for batch in table.iter_batches(PARQUET_ROWS):
                rows = []
                for row in batch.to_pylist():
                    number += 1
                    rows.append(Row(event_of(row, fields), file, number))
                yield rows
    except arrow.ArrowInvalid as error:
        raise UsageError(f"{path} is no Parquet file ({str(error).splitlines()[0]})") from None


def _has_columns(path: str, names: Iterable[str], fields: Fields) -> None:
    there = list(names)
    for flag, asked in (
        *([("--text-field", fields.text or "text")] if fields.text or not fields.whole else []),
        *([("--id-field", fields.id)] if fields.id else []),
        *(("--keep", name) for name in fields.keep if name != "*"),
    ):
        if asked not in there and asked.partition(".")[0] not in there:
            raise UsageError(f"{path} has no column {asked!r} (it has {', '.join(there)}); name one with {flag}")
