"""Rows of files become events, whatever the file is."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow
import pyarrow.parquet as parquet
import pytest

from streamer.errors import UsageError
from streamer.files import rows as rows_module
from streamer.files.rows import Fields, Format, Row, Rows, format_of

NOTHING = cast(BinaryIO, io.BytesIO())


def read(*paths: Path, fields: Fields = Fields(), format_: Format | None = None, most: int = 7) -> list[Row]:
    rows = Rows([str(path) for path in paths], NOTHING, format_, fields)
    found: list[Row] = []
    while some := rows.read(most, 1 << 20):
        assert len(some) <= most
        found += some
    assert rows.read_bytes == rows.total_bytes or paths[-1].suffix == ".parquet"
    return found


def events(found: list[Row]) -> list[Any]:
    return [json.loads(row.value or b"null") for row in found]


TABLE = [{"id": f"r{n}", "body": f"text, {n}\nof two lines" if n % 5 else 'a "quote"', "stars": n} for n in range(40)]


def test_json_lines_go_on_byte_by_byte(tmp_path: Path) -> None:
    """Empty lines are rows, Windows' ends are none of theirs, and the last line needs no end."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\r\n\n{"text":  "b"}')
    assert read(tmp_path / "a.jsonl") == [
        Row(b'{"text": "a"}', 0, 1),
        Row(b"", 0, 2),
        Row(b'{"text":  "b"}', 0, 3),
    ]


def test_several_files_one_after_the_other_plain_and_packed(tmp_path: Path) -> None:
    """Lines count anew in each."""
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"three\n"))
    with pyarrow.OSFile(str(tmp_path / "c.txt.zst"), "wb") as file, pyarrow.CompressedOutputStream(file, "zstd") as out:
        out.write("vier \u00e4\n".encode())
    found = read(tmp_path / "a.txt", tmp_path / "b.txt.gz", tmp_path / "c.txt.zst")
    assert [event["text"] for event in events(found)] == ["one", "two", "three", "vier ä"]
    assert [(row.file, row.line) for row in found] == [(0, 1), (0, 2), (1, 1), (2, 1)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_by_column(tmp_path: Path, kind: str) -> None:
    """A column is the text, another the id, others are passed through; numbers of Parquet stay numbers."""
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        import csv

        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(TABLE[0]))
            writer.writeheader()
            writer.writerows(TABLE)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(TABLE), path)
    found = events(read(path, fields=Fields("body", keep=("stars",))))
    assert [event["text"] for event in found] == [row["body"] for row in TABLE]
    assert [event["id"] for event in found] == [row["id"] for row in TABLE]
    as_read = str if kind == "csv" else int
    assert [event["metadata"] for event in found] == [{"stars": as_read(row["stars"])} for row in TABLE]  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"no column 'text' \(it has id, body, stars\); name one with --text-field"):
        read(path)


def test_paths_into_json(tmp_path: Path) -> None:
    """Text and id where they stand; what is not there is not invented, and what is no object is left to the decoder."""
    lines = [{"after": {"body": {"message": "hi"}, "pk": 7}, "op": "c"}, {"after": None}, "text"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = events(read(tmp_path / "a.jsonl", fields=Fields("after.body.message", "after.pk", ("op",))))
    assert found == [
        {"text": "hi", "id": 7, "metadata": {"op": "c"}},
        {"text": None, "id": None, "metadata": {"op": None}},
        "text",
    ]


def test_a_line_without_end_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one row without a value; the lines around it are read."""
    monkeypatch.setattr(rows_module, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", 64)
    stream = cast(BinaryIO, io.BytesIO(b"first\n" + b"x" * 100_000 + b"\nlast\n" + b"y" * 1001))
    rows = Rows(["-"], stream, "jsonl", Fields())
    found: list[Row] = []
    while some := rows.read(10, 1 << 20):
        found += some
    assert [row.value for row in found] == [b"first", None, b"last", None]
    assert [row.line for row in found] == [1, 2, 3, 4]


def test_what_is_no_utf8_is_refused_where_it_is_decoded(tmp_path: Path) -> None:
    """Its bytes go on as they are: in a text, and in a table's row."""
    (tmp_path / "a.txt").write_bytes(b"good\n\xff\xfe\n")
    assert [row.value for row in read(tmp_path / "a.txt")] == [b'{"text":"good"}', b"\xff\xfe"]
    (tmp_path / "a.csv").write_bytes(b"text\ngood\n\xff\n")
    assert [row.value for row in read(tmp_path / "a.csv")] == [b'{"text":"good"}', b"\xff"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.JSON", "jsonl"),
        ("a.csv.gz", "csv"),
        ("a.b.parquet", "parquet"),
        ("a", None),
        ("a.gz", None),
    ],
)
def test_the_suffix_tells_the_format(name: str, kind: str | None) -> None:
    assert format_of(name) == kind


def test_some_may_be_left_out(tmp_path: Path) -> None:
    """The first of all files together."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}{n}\n" for n in range(10)))
    rows = Rows([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], NOTHING, None, Fields())
    assert rows.skip(13) == 13
    assert events(rows.read(1, 1 << 20)) == [{"text": "b3"}]
    assert rows.skip(100) == 6


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UsageError, match=r"a\.parquet is no Parquet file"):
        read(tmp_path / "a.parquet", fields=Fields("text"))
