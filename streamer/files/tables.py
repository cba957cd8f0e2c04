"""Lines of results as a table: CSV or Parquet.

A column each for line, id and the model; for each field of the output that is no object (`label`, `score`, `vector` …),
for each field of `metadata`, and for an error's code and message. In CSV what is a list or an object is JSON.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from streamer.extras import require

ROWS: Final = 4096
Row = Callable[[bytes], dict[str, Any]]
"""Makes columns of a line."""


def flat(line: bytes) -> dict[str, Any]:
    """A line of results as columns."""
    found = msgspec.json.decode(line)
    row = {name: found[name] for name in ("file", "line", "id") if name in found}
    output = found.get("output")
    row |= {f"output.{name}": value for name, value in output.items()} if isinstance(output, dict) else {}
    row |= {f"metadata.{name}": value for name, value in (found.get("metadata") or {}).items()}
    row |= {name: found[name] for name in ("truncated", "cached") if name in found}
    row |= {f"error.{name}": found["error"][name] for name in ("code", "message") if "error" in found}
    if "model" in found:
        row["model.revision"] = found["model"]["revision"]
    return row


def _chunks(lines: Path, row_of: Row) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    with lines.open("rb") as stream:
        for line in stream:
            chunk.append(row_of(line))
            if len(chunk) == ROWS:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def to_csv(lines: Path, table: Path, row_of: Row = flat) -> None:
    """Two passes: which columns there are, then their values."""
    columns: dict[str, None] = {}
    for chunk in _chunks(lines, row_of):
        for row in chunk:
            columns.update(dict.fromkeys(row))
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns))
        writer.writeheader()
        for chunk in _chunks(lines, row_of):
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in chunk)


def _cell(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict | bool) else value


def to_parquet(lines: Path, table: Path, row_of: Row = flat) -> None:
    """Two passes: which types there are, then their values. A field that has several types is JSON in all rows."""
    arrow = arrow_for(table)
    import pyarrow.parquet as parquet

    schemas: list[Any] = []
    mixed: set[str] = set()
    for chunk in _chunks(lines, row_of):
        schemas.append(_schema(arrow, chunk, mixed))
        try:
            schemas = [arrow.unify_schemas(schemas, promote_options="permissive")]
        except (arrow.ArrowInvalid, arrow.ArrowTypeError):
            known, new = schemas
            mixed |= {name for name in known.names if name in new.names and known.field(name) != new.field(name)}
            schemas = [arrow.unify_schemas([_as_json(arrow, one, mixed) for one in schemas])]
    schema = _as_json(arrow, schemas[0], mixed) if schemas else arrow.schema([("line", arrow.int64())])
    with parquet.ParquetWriter(table, schema) as writer:
        for chunk in _chunks(lines, row_of):
            rows = [{name: _json(value) if name in mixed else value for name, value in row.items()} for row in chunk]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))


def arrow_for(path: Path) -> Any:
    """pyarrow. Raises MissingExtraError where it is not installed."""
    require(str(path), "parquet")
    import pyarrow

    return pyarrow


def _schema(arrow: Any, rows: list[dict[str, Any]], mixed: set[str]) -> Any:
    columns = dict.fromkeys(name for row in rows for name in row)
    fields = []
    for name in columns:
        try:
            kind = arrow.array([row.get(name) for row in rows]).type
        except (arrow.ArrowInvalid, arrow.ArrowTypeError):
            mixed.add(name)
            kind = arrow.string()
        fields.append((name, kind))
    return arrow.schema(fields)


def _as_json(arrow: Any, schema: Any, mixed: set[str]) -> Any:
    return arrow.schema([(field.name, arrow.string() if field.name in mixed else field.type) for field in schema])


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
