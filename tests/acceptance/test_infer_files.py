"""`streamer infer` over files: each row once, in order, through kills; formats in and out."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest

from tests.acceptance.harness import OBEDIENT, ROOT, wait_for

INFER = [
    sys.executable,
    "-m",
    "streamer",
    "infer",
    "--task",
    "text-classification",
    "--set",
    "pipelines.infer.workers=1",
]
ROWS = 4_000


def command(*arguments: str | Path, model: str = OBEDIENT) -> list[str]:
    return [*INFER, "--model", model, *map(str, arguments)]


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, **options), capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Numbers as texts; every thousandth is one that the model refuses."""
    rows = [{"key": f"k{n}", "body": f"{n} RAISE" if n % 1000 == 7 else str(n), "n": n} for n in range(ROWS)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def test_a_pipeline_reads_rows_in_its_own_shape(tmp_path: Path) -> None:
    """What names the text of its topic's events names that of a file's rows, in JSON lines and in tables."""
    (tmp_path / "streamer.toml").write_text(
        f'[pipelines.support]\ntask = "text-classification"\nmodel = "{OBEDIENT}"\ninput = "tickets"\n'
        'output = "tickets.out"\ntext_field = "body.message"\nid_field = "key"\nworkers = 1\n'
    )
    rows = [{"key": f"k{n}", "body": {"message": str(n)}} for n in range(20)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    for name in ("in.jsonl", "in.parquet"):
        arguments = ["--pipeline", "support", "--config", str(tmp_path / "streamer.toml"), str(tmp_path / name)]
        done = subprocess.run([*INFER[:4], *arguments], capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [row["key"] for row in rows]


def test_an_output_of_another_kind_is_refused(table: Path) -> None:
    """Before anything is loaded: a spreadsheet of JSON lines would be none."""
    done = run(table, "--text-field", "body", "-o", table.with_name("out.xlsx"))
    assert done.returncode == 2
    assert ".xlsx files are not written" in done.stderr


def test_killed_five_times_each_row_is_there_once_in_order(table: Path) -> None:
    """kill -9 wherever it is; the same command goes on. The output appears when it is complete; what had failed is
    among the errors; and afterwards the command refuses to write over it."""
    out, errors = table.with_name("out.parquet"), table.with_name("failed.jsonl")
    arguments = ("--text-field", "body", "--id-field", "key", "--keep", "n", "--option", "text_us=800")
    job = command(table, "-o", out, "--errors", errors, *arguments)
    note = table.with_name("out.parquet.partial.job")
    rng, kills = random.Random(3), 0
    for kill in range(5):
        process = subprocess.Popen(job, cwd=ROOT, stderr=subprocess.DEVNULL)
        before = json.loads(note.read_bytes())["rows"] if note.exists() else 0

        def moved(before: int = before, process: subprocess.Popen[bytes] = process) -> bool:
            return process.poll() is not None or (note.exists() and json.loads(note.read_bytes())["rows"] > before)

        wait_for(moved, f"rows beyond {before}")
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert not out.exists() or process.returncode >= 0, f"complete, and killed ({kill})"
    assert kills >= 3
    code = 2 if out.exists() else subprocess.run(job, cwd=ROOT, timeout=300, stderr=subprocess.DEVNULL).returncode
    assert code in (2, 4)
    found = parquet.read_table(out).to_pylist()
    failed = [json.loads(line) for line in errors.read_text().splitlines()]
    assert [row["line"] for row in failed] == [n + 1 for n in range(ROWS) if n % 1000 == 7]
    assert [row["error"]["code"] for row in failed] == ["infer.exception"] * 4
    expected = [n for n in range(ROWS) if n % 1000 != 7]
    assert [row["output.n"] for row in found] == expected
    assert [row["id"] for row in found] == [f"k{n}" for n in expected]
    assert [row["metadata.n"] for row in found] == expected
    assert not list(table.parent.glob("*.partial*"))
    again = run(table, "-o", out, *arguments)
    assert again.returncode == 2 and "--restart" in again.stderr


def test_another_model_or_other_rows_are_not_mixed_in(tmp_path: Path) -> None:
    """SIGINT ends with 130 and says how to go on; with other options, or other rows, it does not."""
    lines = tmp_path / "in.txt"
    lines.write_text("".join(f"{n}\n" for n in range(3_000)))
    out = tmp_path / "out.csv"
    job = command(lines, "-o", out, "--option", "text_us=1500")
    with subprocess.Popen(job, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_for(
            lambda: (tmp_path / "out.csv.partial").exists() and (tmp_path / "out.csv.partial").stat().st_size, "rows"
        )
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command continues" in said
    other = run(lines, "-o", out, "--option", "text_us=1")
    assert other.returncode == 2 and "one of the options has changed since it was started" in other.stderr
    lines.write_text("0\n")
    changed = run(lines, "-o", out, "--option", "text_us=1500")
    assert changed.returncode == 2 and "one of them, has changed since it was started" in changed.stderr
    anew = run(lines, "-o", out, "--restart")
    assert anew.returncode == 0, anew.stderr
    assert "1 row in" in anew.stderr
    with out.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["line"], row["output.n"]) == ("1", "0")


def test_wrong_places_are_one_sentence(tmp_path: Path) -> None:
    """A missing file, a missing folder, a folder for a file, a full disk, and a reader that goes away."""
    lines = tmp_path / "in.txt"
    lines.write_text("".join(f"{n}\n" for n in range(2_000)))
    for arguments, code, words in (
        ((tmp_path / "no.jsonl",), 2, "there is no file"),
        ((tmp_path,), 2, "is a folder: name its files"),
        ((lines, "-o", tmp_path / "no" / "out.jsonl"), 2, "make it first"),
        ((lines, "-o", tmp_path), 2, "is a folder: name a file"),
        ((lines, tmp_path / "." / "in.txt"), 2, "is named twice"),
        ((lines, "-o", lines, "--restart"), 2, "would be read and written"),
        ((lines, "--errors", lines), 2, "would be read and written"),
    ):
        done = run(*arguments)
        assert done.returncode == code, done.stderr
        assert words in done.stderr and "Traceback" not in done.stderr
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command(lines), stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 5 and "No space left" in done.stderr and "Traceback" not in done.stderr
    with subprocess.Popen(command(lines), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["line"] == 1
        process.stdout.close()
        assert process.wait(120) == 0
        assert b"Traceback" not in process.stderr.read()


def test_a_full_disk_is_a_sentence_and_the_same_command_continues(tmp_path: Path) -> None:
    """Every row is there once afterwards, also the one whose line was cut off."""
    lines, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    lines.write_text("".join(f"{n}\n" for n in range(2_000)))
    limit = 100_000

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    job = command(lines, "-o", out)
    full = subprocess.run(job, capture_output=True, text=True, cwd=ROOT, timeout=120, preexec_fn=small_disk)
    assert full.returncode == 5 and "Traceback" not in full.stderr
    assert "the output can't be written (File too large)" in full.stderr
    assert "give the same command again" in full.stderr
    assert (tmp_path / "out.jsonl.partial").stat().st_size == limit and not out.exists()
    done = run(lines, "-o", out)
    assert done.returncode == 0 and "continuing after row" in done.stderr, done.stderr
    assert [json.loads(line)["output"]["n"] for line in out.read_text().splitlines()] == list(range(2_000))


def test_failed_rows_carry_line_id_and_code(tmp_path: Path) -> None:
    """Also where the row is no event; the file is never one that was there."""
    rows = [
        '{"id": "a", "text": ""}',
        '{"id": 7, "text": 1}',
        "",
        '{"id": "d", "text": "5 RAISE"}',
        '{"text": "6"}',
        "{",
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(rows))
    errors = tmp_path / "failed.jsonl"
    done = run(tmp_path / "in.jsonl", "--errors", errors)
    assert done.returncode == 4, done.stderr
    assert [json.loads(line)["line"] for line in done.stdout.splitlines()] == [5]
    failed = [json.loads(line) for line in errors.read_text().splitlines()]
    assert [(one["line"], one.get("id"), one["error"]["code"]) for one in failed] == [
        (1, "a", "validate.empty_text"),
        (2, 7, "validate.text"),
        (3, None, "decode.empty"),
        (4, "d", "infer.exception"),
        (6, None, "decode.json"),
    ]
    again = run(tmp_path / "in.jsonl", "--errors", errors)
    assert again.returncode == 2 and "already exists" in again.stderr


def test_an_empty_file_makes_an_empty_output(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").touch()
    done = run(tmp_path / "in.jsonl", "-o", tmp_path / "out.parquet", model="builtin:null")
    assert done.returncode == 0, done.stderr
    assert "0 rows in" in done.stderr and parquet.read_table(tmp_path / "out.parquet").num_rows == 0


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    """It never makes an output that looks complete."""
    packed = gzip.compress("".join(f"{n * n * n}\n" for n in range(200_000)).encode())
    (tmp_path / "in.txt.gz").write_bytes(packed[:-10])
    done = run(tmp_path / "in.txt.gz", "-o", tmp_path / "out.jsonl", model="builtin:null")
    assert done.returncode == 5 and "Traceback" not in done.stderr
    assert "in.txt.gz can't be read to its end" in done.stderr and not (tmp_path / "out.jsonl").exists()


def test_memory_is_bounded_for_files_of_any_size(tmp_path: Path) -> None:
    """Eighty megabytes take what the budget of 16 allows more than a few rows do."""
    peaks = []
    for rows in (100, 160_000):
        lines = tmp_path / f"{rows}.txt"
        lines.write_text("".join(f"{n} {'words ' * 83}\n" for n in range(rows)))
        output = (lines, "-o", lines.with_suffix(".jsonl"))
        job = command(*output, "--set", "pipelines.infer.budget_mb=16", model="builtin:null")
        with subprocess.Popen(job, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, _peak_mib(process.pid))
                time.sleep(0.02)
        assert process.returncode == 0
        peaks.append(peak)
    small, large = peaks
    assert small > 0 and large < small + 40, f"{small} and {large} MiB"


def _peak_mib(pid: int) -> int:
    """The most memory that a process had so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) >> 10 if found else 0
