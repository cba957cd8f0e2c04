"""A job over files: killed or out of disk anywhere, what counts of its files is known, and its end is done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.errors import UsageError
from streamer.files.job import Job

IDENTITY = {"files": [["in", 1, 2]]}


def test_a_line_that_is_torn_is_cut_off(tmp_path: Path) -> None:
    """What was written behind the last rows that count, as by a write that found the disk full, is no part of it."""
    job = Job(tmp_path / "out", tmp_path / "failed")
    streams = job.begin(IDENTITY)
    streams[0].write(b"one\n")
    job.reached(1, 0, [4, 0])
    streams[0].write(b"tw")
    for stream in streams:
        stream.close()
    again = Job(tmp_path / "out", tmp_path / "failed")
    assert again.rows_done == 1
    streams = again.begin(IDENTITY)
    streams[0].write(b"two\n")
    again.reached(2, 0, [8, 0])
    again.end(streams)
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("moment", ["before", "after the errors", "after the output"])
def test_one_that_is_killed_while_its_files_get_their_names_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whatever of it was done, the rest is, and nothing is asked anew."""
    job = Job(tmp_path / "out", tmp_path / "failed")
    streams = job.begin(IDENTITY)
    streams[0].write(b"one\n")
    streams[1].write(b"two\n")
    job.reached(2, 1, [4, 4])
    with monkeypatch.context() as patch:
        patch.setattr(Job, "_finish", lambda _: None)  # killed here
        job.end(streams)
    if moment != "before":
        (tmp_path / "failed.partial").replace(tmp_path / "failed")
    if moment == "after the output":
        (tmp_path / "out.partial").replace(tmp_path / "out")
    with pytest.raises(UsageError, match="already exists and is complete"):
        Job(tmp_path / "out", tmp_path / "failed")
    assert (tmp_path / "out").read_bytes() == b"one\n" and (tmp_path / "failed").read_bytes() == b"two\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed", "out"]
