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
    again = Job(tmp_path / "out", tmp_path / "failed")
    assert again.ended and again.failed == 1
    again.check(IDENTITY)
    with pytest.raises(UsageError, match="was completed just now, but the list of input files"):
        again.check({"files": []})
    with pytest.raises(UsageError, match="already exists and is complete"):
        Job(tmp_path / "out", tmp_path / "failed")
    assert (tmp_path / "out").read_bytes() == b"one\n" and (tmp_path / "failed").read_bytes() == b"two\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed", "out"]


def test_a_job_runs_in_one_process_at_a_time(tmp_path: Path) -> None:
    """Another one that comes meanwhile would write between its lines, and --restart would take them from under it."""
    job = Job(tmp_path / "out", None)
    (stream,) = job.begin(IDENTITY)
    stream.write(b"one\n")
    stream.flush()
    for restart in (False, True):
        with pytest.raises(UsageError, match="is being written by another process"):
            Job(tmp_path / "out", None, restart)
    assert (tmp_path / "out.partial").read_bytes() == b"one\n"
    stream.close()
    again = Job(tmp_path / "out", None, True)
    (stream,) = again.begin(IDENTITY)
    assert stream.tell() == 0
    stream.close()


def test_what_is_complete_is_never_written_over(tmp_path: Path) -> None:
    """Neither the results nor the failed rows of another job; with --restart only at the end."""
    for name in ("out", "failed"):
        (tmp_path / name).write_bytes(b"kept\n")
        with pytest.raises(UsageError, match=f"{name} already exists and is complete"):
            Job(tmp_path / "out", tmp_path / "failed")
        if name == "out":
            (tmp_path / "out").unlink()
    job = Job(tmp_path / "out", tmp_path / "failed", True)
    streams = job.begin(IDENTITY)
    streams[1].write(b"new\n")
    job.reached(1, 1, [0, 4])
    assert (tmp_path / "failed").read_bytes() == b"kept\n"
    job.end(streams)
    assert (tmp_path / "failed").read_bytes() == b"new\n"


def test_results_and_errors_need_files_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't take both results and errors"):
        Job(tmp_path / "out", tmp_path / "out")


def test_a_job_that_is_not_the_same_says_what_changed(tmp_path: Path) -> None:
    """One thing or several, in words."""
    (stream,) = Job(tmp_path / "out", None).begin({"files": 1, "options": 1, "revision": 1})
    stream.close()
    for identity, words in (
        ({"files": 1, "options": 2, "revision": 1}, "because one of the options has changed since"),
        ({"files": 1, "options": 2, "revision": 2}, "because one of the options and the model have changed since"),
    ):
        with pytest.raises(UsageError, match=words):
            Job(tmp_path / "out", None).begin(identity)


def test_a_table_that_the_disk_had_no_room_for_is_made_once_there_is(tmp_path: Path) -> None:
    """What was written of it is gone, which makes room; all rows stay."""

    def full(lines: Path, table: Path) -> None:
        table.write_bytes(lines.read_bytes()[:2])
        raise OSError(28, "No space left on device")

    def copy(lines: Path, table: Path) -> None:
        table.write_bytes(lines.read_bytes())

    job = Job(tmp_path / "out.csv", None, convert=full)
    streams = job.begin(IDENTITY)
    streams[0].write(b"one\n")
    job.reached(1, 0, [4])
    with pytest.raises(OSError, match="No space"):
        job.end(streams)
    streams[0].close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv.partial", "out.csv.partial.job"]
    again = Job(tmp_path / "out.csv", None, convert=copy)
    assert again.ended and (tmp_path / "out.csv").read_bytes() == b"one\n"
