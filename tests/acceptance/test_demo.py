"""`streamer demo` as a person calls it: from nothing to a checked summary, with nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer import demo
from tests.acceptance.harness import alive, children, wait_for

EVENTS = 300
DEADLINE_S = 300  # for a loaded machine; two idle cores take about 25 s

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """Where the demo's temporary files go. Beside it lie the locks of slots, which stay, and torch's cache."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        for name in ("temporary", "runtime", "torch"):
            Path(folder, name).mkdir(mode=0o700)
        yield Path(folder, "temporary")


def start(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        "TMPDIR": str(temporary),
        "XDG_RUNTIME_DIR": str(temporary.with_name("runtime")),
        "TORCHINDUCTOR_CACHE_DIR": str(temporary.with_name("torch")),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "streamer", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [each for child in found for each in descendants(child)]


@pytest.fixture(scope="module")
def played(temporary: Path) -> dict[str, Any]:
    """The summary of one whole demo, what it said meanwhile, and what it left behind."""
    process = start(temporary, "--events", str(EVENTS), "--json")
    try:
        out, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 0, said + out
    return {"summary": json.loads(out), "said": said, "left": sorted(temporary.iterdir())}


def test_every_event_has_one_result_in_each_pipeline(played: dict[str, Any]) -> None:
    """Both pipelines answer all events, lose none and double none."""
    summary = played["summary"]
    assert summary["ok"]
    assert summary["problems"] == []
    assert set(summary["pipelines"]) == {"sentiment", "embedding"}
    for pipeline in summary["pipelines"].values():
        assert pipeline["results"] == EVENTS
        assert (pipeline["lost"], pipeline["duplicate"], pipeline["foreign"]) == (0, 0, 0)
        assert pipeline["skipped"] == {"tombstone": 1}


def test_every_poison_record_gets_its_code(played: dict[str, Any]) -> None:
    """Each poison record is named with the code that it must get, and got it in both pipelines."""
    poison = {one.name: one.expect for one in demo.poison()}
    assert {one["name"]: one["expected"] for one in played["summary"]["poison"]} == poison
    for one in played["summary"]["poison"]:
        assert set(one["got"].values()) == {poison[one["name"]]}
    dead_letters = sum(expect != "skipped" for expect in poison.values())
    for pipeline in played["summary"]["pipelines"].values():
        assert sum(pipeline["dead_letters"].values()) == dead_letters


def test_repeats_get_the_first_answer(played: dict[str, Any]) -> None:
    """The repeats among the events are counted, and none was computed again."""
    texts = [json.loads(value)["text"] for _, value in demo.events()][:EVENTS]
    for pipeline in played["summary"]["pipelines"].values():
        repeats = pipeline["repeats"]
        assert repeats["events"] == len(texts) - len(set(texts)) > 0
        assert repeats["cached"] + repeats["together"] == repeats["events"]
        assert repeats["different"] == 0


def test_figures_are_those_of_a_run(played: dict[str, Any]) -> None:
    """Latency of live traffic at half of the capacity, throughput of the rest, and accuracy are there and possible."""
    for pipeline in played["summary"]["pipelines"].values():
        assert 0 < pipeline["latency"]["p50_ms"] <= pipeline["latency"]["p99_ms"] <= pipeline["latency"]["max_ms"]
        assert pipeline["throughput"]["per_s"] > 0
        assert 0 < pipeline["settles"]["largest"] <= EVENTS
        assert pipeline["latency"]["per_s"] == max(1, int(played["summary"]["capacity_per_s"] / 2))
        assert pipeline["latency"]["records"] + pipeline["throughput"]["records"] < EVENTS
    sentiment, embedding = (played["summary"]["pipelines"][name] for name in ("sentiment", "embedding"))
    assert sentiment["accuracy"]["share"] > 0.8
    assert sentiment["example"]["output"]["label"] in ("negative", "positive")
    assert embedding["accuracy"] is embedding["health"] is None
    health = sentiment["health"]
    assert health["f1_macro"] > 0.75
    assert 0 <= health["ece"] < 0.2
    assert health["shift"]["texts"] == EVENTS // 5
    assert health["shift"]["state"] == "insufficient"  # 60 texts are too few, and that is said
    assert "of the" in health["shift"]["what"][0]
    assert embedding["example"]["output"]["dimensions"] == 384


def test_words_elsewhere_than_on_a_terminal_are_plain(played: dict[str, Any]) -> None:
    """Without a terminal it says a few lines, without control characters."""
    lines = played["said"].splitlines()
    assert 0 < len(lines) < 100
    assert all(line.isprintable() for line in lines)


def test_nothing_is_left_behind(played: dict[str, Any]) -> None:
    """Its temporary files are removed."""
    assert played["left"] == []


def test_an_interrupted_demo_cleans_up(temporary: Path) -> None:
    """Ctrl-C while the pipelines start ends Kafka, Redis and all processes, and removes the files."""
    process = start(temporary)
    started: set[int] = set()

    def pipelines_start() -> bool:
        started.update(descendants(process.pid))
        return any(temporary.glob("streamer-demo-*/run.log"))

    try:
        wait_for(pipelines_start, "the start of the pipelines", DEADLINE_S)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "all that was started has ended" in said
    assert len(started) >= 2
    wait_for(lambda: not any(map(alive, started)), "the ends of all processes", 10)
    assert list(temporary.iterdir()) == []
