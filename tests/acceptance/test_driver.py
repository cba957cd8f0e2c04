"""The driver as a process: light, bounded, and never survived by its workers."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.harness import ROOT, Lab, alive, check, event, wait_for

RSS_MB = 200
GROWTH_MB = 8


@pytest.mark.slow
@pytest.mark.promise(12)
def test_the_driver_is_light_and_its_workers_die_with_it(lab: Lab) -> None:
    """With a slow model and a backlog of 150,000 events the driver has no torch, stays below 200 MB and flat; after
    kill -9 its worker, busy in a forward pass, is gone within 2 s."""
    lab.topics()
    padding = "x" * 200
    lab.produce(event(number, padding) for number in range(150_000))
    reader = lab.reader()
    run = lab.start(lab.config(options={"text_us": 200}))

    def peak_mb(outcomes: int) -> float:
        """The most on the way there: from plan to plan it goes up and down by 5 MB, more on a busy machine."""
        taken: list[float] = []

        def arrived() -> bool:
            taken.append(run.rss_mb())
            return reader.count >= outcomes

        wait_for(arrived, f"{outcomes:,} outcomes", run=run)
        return max(taken)

    wait_for(lambda: reader.count >= 5_000, "5,000 outcomes", run=run)
    before = peak_mb(15_000)
    after = peak_mb(30_000)
    assert "torch" not in Path(f"/proc/{run.pid}/maps").read_text()
    assert after < RSS_MB
    assert after - before < GROWTH_MB, f"from {before:.0f} to {after:.0f} MB"
    assert run.worker_pids()
    run.kill()
    killed = time.monotonic()
    wait_for(lambda: not any(map(alive, run.workers)), "the worker's end")
    assert time.monotonic() - killed < 2


@pytest.mark.case(62)
@pytest.mark.promise(12)
def test_answers_larger_than_their_inputs_are_bounded_too(lab: Lab) -> None:
    """180 MB of answers to 40 kB of texts, and one of 100 MB that no topic takes: it never comes to the driver."""
    lab.topics(2)
    lab.produce(event(number, "GIANT" if number == 300 else "HUGE") for number in range(600))
    reader = lab.reader()
    run = lab.start(lab.config())
    wait_for(lambda: reader.places == 600, "all outcomes", run=run)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{run.pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) / 1024 < RSS_MB
    anomalies = check(lab.given, reader.outcomes, lambda place: "publish.too_large" if place == (0, 150) else "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(42)
def test_a_full_disk_under_its_log_costs_nothing(lab: Lab) -> None:
    """Where no line can be written any more, all the same each record has its outcome, and the run ends well."""
    lab.topics(1)
    lab.produce(event(number, "RAISE" if number == 50 else "") for number in range(100))
    reader = lab.reader()
    command = [sys.executable, "-m", "streamer", "run", "--config", str(lab.config()), "--until-end", "--verbose"]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=full, stderr=full, timeout=60)
    assert ended.returncode == 0
    wait_for(lambda: reader.places == 100, "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda place: "infer.exception" if place.offset == 50 else "")
    assert not anomalies, str(anomalies)
