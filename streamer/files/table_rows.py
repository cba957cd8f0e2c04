"""Rows of CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, Final

from streamer.errors import Code, DataFailure, UsageError
from streamer.files.cut import MAX_LINE_BYTES, LongLine, cut
from streamer.files.row import EVENT_FIELDS, Fields, Row, event_of
from streamer.files.tables import arrow_for

BATCH_ROWS: Final = 1024


class _CsvLines:
    """The lines of a CSV file for `csv.reader`, with their ends. In the place of one that is too long to be kept stands
    one that opens or closes quotes as it does, and `too_long` tells of it."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self.too_long: LongLine | None = None

    def __iter__(self) -> Iterator[str]:
        for chunk in cut(self._path, self._stream):
            for line in chunk:
                if isinstance(line, LongLine):
                    self.too_long = line
                    yield '"\n' if line.quotes % 2 else "\n"
                else:
                    yield line.decode("utf-8", "surrogateescape") + "\n"


def csv_rows(path: str, stream: BinaryIO, file: int, fields: Fields) -> Iterator[list[Row]]:
    """RFC 4180 with a header, in UTF-8. A row that has more or fewer columns than the header fails alone."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = _CsvLines(path, stream)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        has_columns(path, header, fields)
        batch: list[Row] = []
        for number, values in enumerate(rows, 1):
            if lines.too_long is None:
                batch.append(_csv_row(header, values, fields, file, number))
            else:
                batch.append(Row(None, file, number, lines.too_long.failure))
                lines.too_long = None
            if len(batch) == BATCH_ROWS:
                yield batch
                batch = []
        yield batch
    except csv.Error as error:
        raise UsageError(f"{path}, line {rows.line_num}: this is not CSV ({error})") from None


def _csv_row(header: list[str], values: list[str], fields: Fields, file: int, number: int) -> Row:
    if len(values) != len(header):
        return Row(None, file, number, _misfit(len(values), len(header)))
    try:
        return Row(event_of(dict(zip(header, values, strict=True)), fields), file, number)
    except UnicodeEncodeError:  # bytes that are not UTF-8: refused where an event is decoded
        return Row(",".join(values).encode("utf-8", "surrogateescape"), file, number)


def _misfit(columns: int, expected: int) -> DataFailure:
    if not columns:
        return DataFailure(Code.DECODE_EMPTY, "The line is empty.")
    return DataFailure(Code.VALIDATE_TYPE, f"The row has {columns} columns, and the header has {expected}.")


def parquet_rows(path: str, file: int, fields: Fields, skips: Callable[[int], bool]) -> Iterator[list[Row]]:
    """Reads no column that is not asked for, and makes no events of rows that are left out."""
    if path == "-":
        raise UsageError("Parquet can't be read from standard input: name a file")
    arrow = arrow_for(Path(path))
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as table:
            schema = table.schema_arrow
            has_columns(path, schema.names, fields)
            _holds_texts(arrow, path, schema, fields)
            number = 0
            for batch in table.iter_batches(BATCH_ROWS, columns=_asked(schema.names, fields)):
                skipped = skips(batch.num_rows)
                values = (
                    repeat(b"", batch.num_rows) if skipped else (event_of(row, fields) for row in batch.to_pylist())
                )
                rows = [Row(value, file, line) for line, value in enumerate(values, number + 1)]
                number += len(rows)
                yield rows
    except arrow.ArrowInvalid as error:
        raise UsageError(f"{path} is not a Parquet file, or is damaged ({str(error).splitlines()[0]})") from None


def _asked(names: list[str], fields: Fields) -> list[str] | None:
    """The columns to read; None for all."""
    if fields.whole or "*" in fields.keep:
        return None
    paths = [fields.text or "text", fields.id, *fields.keep]
    wanted = {*EVENT_FIELDS, *paths, *(path.partition(".")[0] for path in paths)}
    return [name for name in names if name in wanted]


def _holds_texts(arrow: Any, path: str, schema: Any, fields: Fields) -> None:
    """Raises UsageError for a column that can't hold texts: every row of it would fail."""
    name = fields.text or "text"
    if name not in schema.names or (fields.whole and not fields.text):
        return  # a path into an object
    kind = schema.field(name).type
    while arrow.types.is_dictionary(kind):
        kind = kind.value_type
    names = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_null")
    if not any(getattr(arrow.types, test)(kind) for test in names):
        raise UsageError(f"{path}: column {name!r} has the type {kind} and holds no texts; name one with --text-field")


def has_columns(path: str, names: Iterable[str], fields: Fields) -> None:
    """Raises UsageError where one is missing."""
    there = list(names)
    for flag, asked in (
        *([("--text-field", fields.text or "text")] if fields.text or not fields.whole else []),
        *([("--id-field", fields.id)] if fields.id else []),
        *(("--keep", name) for name in fields.keep if name != "*"),
    ):
        if asked not in there and asked.partition(".")[0] not in there:
            raise UsageError(f"{path} has no column {asked!r} (it has {', '.join(there)}); name one with {flag}")
        if there.count(asked) > 1:
            raise UsageError(f"{path} has {there.count(asked)} columns {asked!r}: rename all but one")
