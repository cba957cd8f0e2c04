"""`streamer bench chaos` in its short form: a real cluster breaks, and no reader sees an anomaly."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from streamer.bench.chaos.checker import KINDS
from streamer.bench.chaos.members import given_by_log, owned_by_log

RUN_S = 400
FAULTS = (
    "member killed, started again",
    "worker killed",
    "record that kills workers",
    "commit answer cut off",
    "commit request cut off",
    "group coordinator killed",
    "Redis blackholed",
    "records deleted by retention",
)


@pytest.mark.case(5, 6, 27)
@pytest.mark.promise(1)
@pytest.mark.chaos
def test_nothing_is_lost_repeated_or_reordered_in_chaos() -> None:
    """Kills of members, workers and the group's coordinator, commits cut off, a deadly record, a Redis that does not
    answer and retention that runs ahead cause no anomaly; the deadly record costs three workers at most."""
    only = [argument for fault in FAULTS for argument in ("--only", fault)]
    command = [sys.executable, "-m", "streamer", "bench", "chaos", "--json", "--members", "2", "--seed", "7"]
    command += ["--minutes", "0.3", "--events", "4000", *only]
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = {
        figure["name"]: figure for section in json.loads(run.stdout)["sections"] for figure in section["figures"]
    }
    assert [figures[kind]["value"] for kind in KINDS] == [0] * len(KINDS)
    assert all(figures[fault]["times"] >= 1 for fault in FAULTS)
    assert figures["record that kills workers: deaths"]["value"] <= 3
    assert figures["unseen by retention"]["value"] > 0
    assert figures["member ended, started again"]["value"] == 0


def test_an_unknown_fault_is_refused() -> None:
    """The message names those that there are, before anything is started."""
    command = [sys.executable, "-m", "streamer", "bench", "chaos", "--only", "meteorite"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "meteorite" in run.stderr
    assert "broker killed" in run.stderr


def test_ownership_is_read_from_a_members_log() -> None:
    """What was assigned and not revoked or lost since, with its time; half a line at the end is no harm."""
    lines: list[dict[str, Any]] = [
        {"message": "taking over", "time": "2025-12-31T23:59:58.000Z", "partitions": [["in", 0], ["in", 1]]},
        {"message": "assigned", "time": "2026-01-01T00:00:00.000Z", "partitions": [["in", 0], ["in", 1], ["other", 5]]},
        {"message": "revoked", "time": "2026-01-01T00:00:01.000Z", "partitions": [["in", 1]]},
        {"message": "assigned", "time": "2026-01-01T00:00:02.000Z", "partitions": [["in", 2], ["in", 3]]},
        {"message": "lost", "time": "2026-01-01T00:00:03.000Z", "partitions": [["in", 3]]},
    ]
    log = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    owned = owned_by_log(log + '\n{"message":"assigned","time', "in")
    assert list(owned) == [0, 2]
    assert owned[2] - owned[0] == 2
    given = given_by_log(log, "in")
    assert list(given) == [0, 1]
    assert owned[0] - given[0] == 2
