"""Rows of files become events, whatever the file is."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow
import pyarrow.parquet as parquet
import pytest

from streamer.errors import DependencyError, UsageError
from streamer.files import cut as cut_module
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
    as_read: Callable[[object], object] = str if kind == "csv" else lambda value: value
    assert [event["metadata"] for event in found] == [{"stars": as_read(row["stars"])} for row in TABLE]
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
    monkeypatch.setattr(cut_module, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(cut_module, "CHUNK_BYTES", 64)
    stream = cast(BinaryIO, io.BytesIO(b"first\n" + b"x" * 100_000 + b"\nlast\n" + b"y" * 1001))
    rows = Rows(["-"], stream, "jsonl", Fields())
    found: list[Row] = []
    while some := rows.read(10, 1 << 20):
        found += some
    assert [row.value for row in found] == [b"first", None, b"last", None]
    assert [row.line for row in found] == [1, 2, 3, 4]
    assert [row.failure and row.failure.code for row in found] == [None, "validate.too_large"] * 2
    assert found[1].failure is not None and "100,000 bytes" in found[1].failure.message


class Gigabyte(io.RawIOBase):
    """A line of a gigabyte between two others."""

    def __init__(self) -> None:
        self._left = [b"first\n", *[b"x" * (1 << 18)] * 4096, b"\nlast\n"]
        self._left.reverse()

    def read1(self, size: int) -> bytes:
        """The next piece."""
        return self._left.pop() if self._left else b""


@pytest.mark.parametrize("kind", ["text", "csv"])
def test_a_line_of_a_gigabyte_takes_little_memory_and_time(kind: Format) -> None:
    """In linear time: a read that joins what it has with each piece would take minutes."""
    rows = Rows(["-"], cast(BinaryIO, Gigabyte()), kind, Fields("first"))
    found: list[Row] = []
    tracemalloc.start()
    try:
        while some := rows.read(10, 1 << 20):
            found += some
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [row.failure is None for row in found] == ([True, False, True] if kind == "text" else [False, True])
    assert peak < 64 << 20


def test_a_row_of_csv_that_is_too_long_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it stands alone, opens quotes, is within them, or closes them."""
    monkeypatch.setattr(cut_module, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(cut_module, "CHUNK_BYTES", 16)
    long = "x" * 200
    rows = [f"1,{long}", "2,b", f'3,"{long}\nend"', f'4,"start\n{long}\nend"', f'5,"start\n{long}"', '6,"two\nlines"']
    stream = cast(BinaryIO, io.BytesIO("\r\n".join(["id,text", *rows]).encode()))
    source = Rows(["-"], stream, "csv", Fields())
    found: list[Row] = []
    while some := source.read(10, 1 << 20):
        found += some
    assert [row.line for row in found] == [1, 2, 3, 4, 5, 6]
    assert [row.failure and row.failure.code.value for row in found if row.value is None] == ["validate.too_large"] * 4
    assert [event["text"] for event in events(found) if event] == ["b", "two\nlines"]


def test_rows_of_csv_that_do_not_fit_the_header_fail_alone(tmp_path: Path) -> None:
    """They say why; an empty line is a row, too."""
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2\n\n4,d,e\n5,f\n")
    found = read(tmp_path / "a.csv")
    assert [row.failure and row.failure.code.value for row in found] == [
        None,
        "validate.type",
        "decode.empty",
        "validate.type",
        None,
    ]
    assert found[3].failure is not None and found[3].failure.message == "The row has 3 columns, and the header has 2."


@pytest.mark.parametrize(("name", "rows"), [("a.txt", "one\ntwo\n"), ("a.csv", "text\none\ntwo\n")])
def test_what_windows_writes(tmp_path: Path, name: str, rows: str) -> None:
    """A byte order mark is no part of a text, nor are its line ends; UTF-16 is refused with a way out."""
    path = tmp_path / name
    path.write_bytes(rows.replace("\n", "\r\n").encode("utf-8-sig"))
    assert [event["text"] for event in events(read(path))] == ["one", "two"]
    path.write_bytes(rows.encode("utf-16"))
    with pytest.raises(UsageError, match="is in UTF-16: save it as UTF-8"):
        read(path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.txt.gz"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    assert read(tmp_path / name) == []


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_packed_file_that_is_cut_off_is_named(tmp_path: Path, kind: str) -> None:
    """It is not taken for one that ends there."""
    path = tmp_path / f"a.txt.{kind}"
    lines = "".join(f"{n * n * n * 7919}\n" for n in range(50_000)).encode()
    if kind == "gz":
        path.write_bytes(gzip.compress(lines))
    else:
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.CompressedOutputStream(file, "zstd") as out:
            out.write(lines)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DependencyError, match=rf"a\.txt\.{kind} can't be read to its end"):
        read(path)


def test_columns_of_other_types(tmp_path: Path) -> None:
    """A column that holds no texts is refused before any row; bytes that are UTF-8 are texts; an event can't hold what
    is not."""
    table = {"n": [1, 2], "body": [b"caf\xc3\xa9", b"\xff"], "key": [b"k", b"\xff"], "text": ["a", None]}
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"column 'n' has the type int64 and holds no texts; name one with --text-f"):
        read(tmp_path / "a.parquet", fields=Fields("n"))
    first, second = read(tmp_path / "a.parquet", fields=Fields("body"))
    assert json.loads(first.value or b"")["text"] == "café" and second.value == b"\xff"
    found = events(read(tmp_path / "a.parquet", fields=Fields("text", "key", ("n",))))
    assert [event["id"] for event in found] == ["k", "ff"]
    words = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    parquet.write_table(pyarrow.table({"text": words}), tmp_path / "b.parquet")
    assert [event["text"] for event in events(read(tmp_path / "b.parquet"))] == ["a", "b", "a"]


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


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("skipped", [1, 1023, 1024, 1025, 2500, 4000])
def test_no_row_is_lost_where_others_are_left_out(tmp_path: Path, kind: str, skipped: int) -> None:
    """Wherever the last one stands in what is read at once; and of two files."""
    table = pyarrow.table({"body": [f"{n}" for n in range(2500)]})
    paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for path in paths:
        if kind == "parquet":
            parquet.write_table(table, path)
        else:
            path.write_text(
                ("body\n" if kind == "csv" else "")
                + "".join(f"{n}\n" if kind == "csv" else f'{{"body": "{n}"}}\n' for n in range(2500))
            )
    rows = Rows([str(path) for path in paths], NOTHING, None, Fields("body"))
    rows.open()
    assert rows.skip(skipped) == skipped
    (row,) = rows.read(1, 1 << 20)
    file, line = divmod(skipped, 2500)
    assert (row.file, row.line, events([row])) == (file, line + 1, [{"text": str(line)}])
    left = 1
    while some := rows.read(999, 1 << 20):
        assert all(row.value for row in some)
        left += len(some)
    assert left == rows.given - skipped == 5000 - skipped


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UsageError, match=r"a\.parquet is not a Parquet file"):
        read(tmp_path / "a.parquet", fields=Fields("text"))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_is_not_packed_is_no_file_that_is_cut_off(tmp_path: Path, suffix: str) -> None:
    """To start again would never help."""
    (tmp_path / f"a.jsonl{suffix}").write_text('{"text": "a"}\n')
    with pytest.raises(UsageError, match=rf"a\.jsonl\{suffix} is no \{suffix} file by its first bytes"):
        read(tmp_path / f"a.jsonl{suffix}")


def test_what_is_wrong_with_a_file_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    """A JSON array, a column that is not there or is there twice. What was looked at is read all the same."""
    (tmp_path / "a.json").write_text('[{"text": "a"},\n {"text": "b"}]')
    (tmp_path / "a.csv").write_text("body,n,n\na,1,2\n")
    for name, fields, words in (
        ("a.json", Fields(), r"a\.json is a JSON array, not JSON lines"),
        ("a.csv", Fields(), r"a\.csv has no column 'text' \(it has body, n, n\)"),
        ("a.csv", Fields("body", keep=("n",)), r"a\.csv has 2 columns 'n'"),
    ):
        with pytest.raises(UsageError, match=words):
            Rows([str(tmp_path / name)], NOTHING, None, fields).open()
    rows = Rows([str(tmp_path / "a.csv"), str(tmp_path / "a.csv")], NOTHING, None, Fields("body"))
    rows.open()
    assert [row.file for row in (*rows.read(9, 999), *rows.read(9, 999), *rows.read(9, 999))] == [0, 1]
