"""Live load: which rate is kept up with, and who used the cores."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamer.bench.harness.cores import CpuTimes
from streamer.bench.harness.traffic import Seen
from streamer.bench.harness.workload import Workload
from streamer.bench.live import keeps_up, warm_up

TEXTS = 1000


@pytest.mark.parametrize(("late_s", "share", "kept"), [(0.3, 1.0, True), (0.0, 1.02, True), (0.0, 1.2, False)])
def test_a_rate_is_kept_up_with_where_the_queue_does_not_grow(late_s: float, share: float, kept: bool) -> None:
    """However long each text takes; `share` is how much longer answering all of them takes than sending them."""
    at = {str(number): number / TEXTS for number in range(TEXTS)}
    assert keeps_up(Seen(at, {name: late_s + sent * share for name, sent in at.items()})) is kept


@pytest.mark.parametrize(("medians_ms", "rounds"), [([50, 30, 29], 3), ([50, 30, 20, 10, 5], 4), ([10, 12], 2)])
def test_what_is_warm_gets_no_faster(medians_ms: list[float], rounds: int) -> None:
    """Until the median falls no more, and not for ever."""
    left = list(medians_ms)

    class Warming:
        def run(self, _: object) -> list[Seen]:
            return [Seen({"a": 0.0}, {"a": left.pop(0) / 1000})]

    warm_up(Warming(), Workload(100_000).events(), 10, 0.1, lambda _: None)  # type: ignore[arg-type]
    assert len(medians_ms) - len(left) == rounds


def test_cores_are_told_by_who_used_them() -> None:
    """A program that computes, one that it started, and this process, which waits."""
    code = "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {!r}]); {}; child.wait()"
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    with subprocess.Popen(
        [sys.executable, "-c", code.format(busy + "\ninput()", "time.sleep(0)")], stdin=-1
    ) as program:
        before = CpuTimes.of(program.pid)
        while (now := CpuTimes.of(program.pid)).below < 0.1:
            assert program.poll() is None
        program.communicate(b"\n")
    used = now.since(before)
    assert used["worker"] > used["driver"] >= 0
    assert used["broker"] >= 0
