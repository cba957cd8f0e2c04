"""A backfill in three commands: files into a topic, the model over it, results and dead letters into files."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.harness import ROOT, wait_for
from tests.conftest import Kafka

ROWS = 1_000
BAD = (17, 503)
CONFIG = """
[kafka]
bootstrap_servers = "{kafka}"
[telemetry]
http = ""
spans = ""
reports = ""
[pipelines.{name}]
task = "text-classification"
model = "builtin:null"
workers = 1
input = ["{name}.in"]
output = "{name}.out"
text_field = "body.message"
id_field = "order.id"
keep = ["customer"]
"""


class Place:
    """A folder with a configuration of one pipeline, whose topics are there."""

    def __init__(self, folder: Path, kafka: Kafka) -> None:
        self.folder = folder
        self.name = f"backfill-{uuid4().hex[:8]}"
        (folder / "streamer.toml").write_text(CONFIG.format(kafka=kafka.bootstrap_servers, name=self.name))
        self("topics", "create", "--input-partitions", "3")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "streamer", *arguments, "-c", str(self.folder / "streamer.toml")]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        ran = subprocess.run(
            self.command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.returncode == code, (arguments, ran.returncode, ran.stderr[-2000:])
        return ran.stderr


@pytest.fixture
def place(tmp_path: Path, kafka: Kafka) -> Place:
    return Place(tmp_path, kafka)


@pytest.mark.slow
def test_a_backfill_is_three_commands(place: Place) -> None:
    """1,000 rows of a foreign shape in a keyed topic: each has one result with its own id, or one dead letter, in the
    order of its key; the same load again changes nothing."""
    source, out, failed = (str(place.folder / name) for name in ("rows.jsonl", "out.csv", "failed.jsonl"))
    rows = [
        {"order": {"id": n}, "customer": f"c{n % 7}", "body": {"message": None if n in BAD else f"text {n}"}}
        for n in range(ROWS)
    ]
    Path(source).write_text("".join(json.dumps(row) + "\n" for row in rows))
    # A row that the pipeline would dead-letter is refused when it is loaded, and again when nothing was corrected.
    for _ in range(2):
        said = place("load", source, place.name, "--key-field", "customer", code=4)
        assert "line 18: validate.text: $.body.message is null" in said
        assert "all rows were loaded" not in said
    # `produce` writes what it is given, so that there are dead letters to save.
    with Path(source).open() as lines:
        skipped = "".join(line for number, line in enumerate(lines) if number in BAD)
    Path(source).write_text("".join(json.dumps(row) + "\n" for n, row in enumerate(rows) if n not in BAD))
    (place.folder / "bad.jsonl").write_text(skipped)
    place("produce", f"{place.name}.in", str(place.folder / "bad.jsonl"))

    place("load", source, place.name, "--key-field", "customer")
    place("run", "--until-end")
    place("save", f"{place.name}.out", out)

    with Path(out).open(newline="") as table:
        results = list(csv.DictReader(table))
    assert sorted(int(row["id"]) for row in results) == [n for n in range(ROWS) if n not in BAD]
    by_customer = defaultdict(list)
    for row in results:
        by_customer[row["metadata.customer"]].append(int(row["id"]))
    assert all(
        found == [n for n in range(ROWS) if n not in BAD and f"c{n % 7}" == name] for name, found in by_customer.items()
    )
    assert len({row["partition"] for row in results}) > 1
    place("save", f"{place.name}.out.dlq", failed)
    letters = [json.loads(line) for line in Path(failed).read_text().splitlines()]
    assert sorted(letter["id"] for letter in letters) == sorted(map(str, BAD))
    assert {letter["error"]["code"] for letter in letters} == {"validate.text"}

    assert "all rows were loaded before" in place("load", source, place.name, "--key-field", "customer")
    assert "is there already" in place("save", f"{place.name}.out", out, code=2)
    assert not list(place.folder.glob("*.partial"))


def test_a_load_that_is_killed_goes_on_exactly(place: Place) -> None:
    """By kill -9 or Ctrl-C, wherever it is: the same command ends it, and each row is there once, in the order of its
    key."""
    source, saved = place.folder / "rows.jsonl", place.folder / "in.jsonl"
    rows = [{"order": {"id": n}, "customer": f"c{n % 7}", "body": {"message": f"text {n}"}} for n in range(6_000)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("load", str(source), place.name, "--key-field", "customer")
    ends = []
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(place.command(*command, "--rate", "300"), cwd=ROOT, stderr=subprocess.DEVNULL)

        def some(before: int = _saved(place, saved), process: subprocess.Popen[bytes] = process) -> bool:
            return process.poll() is not None or _saved(place, saved) > before

        wait_for(some, "rows in the topic")
        process.send_signal(number)
        ends.append(process.wait(60))
    assert ends == [-signal.SIGKILL, 130]
    assert "continuing after row" in place(*command)
    _saved(place, saved)
    found = [json.loads(line) for line in saved.read_text().splitlines()]
    values = [json.loads(record["value"]) for record in found]
    assert sorted(value["order"]["id"] for value in values) == list(range(6_000))
    last: dict[str, int] = {}
    for value in values:
        assert last.get(value["customer"], -1) < value["order"]["id"]
        last[value["customer"]] = value["order"]["id"]


def _saved(place: Place, file: Path) -> int:
    """How many records the input topic has by now; they are in the file."""
    time.sleep(0.1)
    place("save", f"{place.name}.in", str(file), "--overwrite")
    return len(file.read_text().splitlines())
