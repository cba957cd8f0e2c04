"""Lines of results as tables: every row, every value, one type a column."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from streamer.files import tables
from streamer.files.tables import to_csv, to_parquet

LINES = [
    {"line": 1, "id": "a", "output": {"label": "x", "score": 1}, "model": {"revision": "r"}, "cached": False},
    {"line": 2, "error": {"code": "decode.json", "message": "no", "exception": ""}},
    {"line": 3, "id": "b", "output": {"label": "y", "score": 0.5, "scores": [{"label": "y", "score": 0.5}]}},
    {"line": 4, "id": "c", "output": {"vector": [1, 2.5]}, "metadata": {"n": 1, "odd": [1]}},
    {"line": 5, "id": "d", "output": {"label": 7}, "metadata": {"n": None, "odd": {"a": 1}}},
]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Read two at a time, so that later rows bring new columns and types."""
    monkeypatch.setattr(tables, "ROWS", 2)
    path = tmp_path / "lines"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_parquet_keeps_types_and_makes_json_of_what_has_several(lines: Path, tmp_path: Path) -> None:
    to_parquet(lines, tmp_path / "out")
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["output.score"] for row in rows] == [1.0, None, 0.5, None, None]
    assert rows[3]["output.vector"] == [1.0, 2.5]
    assert rows[2]["output.scores"] == [{"label": "y", "score": 0.5}]
    assert [row["output.label"] for row in rows] == ['"x"', None, '"y"', None, "7"]
    assert [row["metadata.odd"] for row in rows][3:] == ["[1]", '{"a":1}']
    assert rows[1]["error.code"] == "decode.json"


def test_csv_has_every_column_and_json_in_cells(lines: Path, tmp_path: Path) -> None:
    to_csv(lines, tmp_path / "out")
    with (tmp_path / "out").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["line"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[3]["output.vector"] == "[1,2.5]" and rows[0]["cached"] == "false"
    assert rows[2]["output.label"] == "y" and rows[1]["output.label"] == ""


@pytest.mark.parametrize("write", [to_csv, to_parquet])
def test_no_rows_make_a_table_all_the_same(tmp_path: Path, write: object) -> None:
    (tmp_path / "lines").touch()
    write(tmp_path / "lines", tmp_path / "out")  # type: ignore[operator]
    assert (tmp_path / "out").exists()
