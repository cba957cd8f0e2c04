"""How far a job over files is, and how long it takes, in words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from streamer.app.infer import Progress
from streamer.cli.infer_progress import Pace, summary
from streamer.files.rows import Fields, Rows


def test_the_time_left_goes_by_rows_answered_not_read(tmp_path: Path) -> None:
    """A small file is read whole long before it is answered; a job that was continued counts from where it was."""
    (tmp_path / "a.txt").write_text("text\n" * 1000)
    rows = Rows([str(tmp_path / "a.txt")], cast(BinaryIO, io.BytesIO()), None, Fields())
    rows.skip(200)
    pace = Pace(rows, 200)
    while rows.read(1000, 1 << 20):
        pass
    assert rows.given == 1000
    assert pace.left(Progress(loaded=8.0), 9.0) == ""
    assert pace.left(Progress(loaded=8.0, written=1), 10.0) == "20%"
    assert pace.left(Progress(loaded=8.0, written=401), 110.0) == "60%, 0:01:39 left"
    assert pace.rate(Progress(loaded=8.0, written=400), 108.0) == pytest.approx(4.0)
    assert pace.left(Progress(loaded=8.0, written=800), 210.0) == ""


def test_a_pipe_has_no_share() -> None:
    rows = Rows(["-"], cast(BinaryIO, io.BytesIO(b"text\n")), None, Fields())
    assert Pace(rows, 0).share(Progress(loaded=1.0, written=1)) is None


def test_the_summary_tells_loading_apart() -> None:
    counts = Progress(loaded=102.0, written=2_000, failed=3, codes={"decode.json": 1, "infer.nan": 2})
    said = summary(counts, 100.0, 112.0)
    assert said == (
        "streamer: 2,000 rows in 12.0 s; 200 rows/s once the model was ready, after 2.0 s;"
        " 3 failed (decode.json 1, infer.nan 2)"
    )
    assert summary(Progress(), 1.0, 3.0) == "streamer: 0 rows in 2.0 s; 0 failed"
