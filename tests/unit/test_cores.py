"""When the driver's threads are on one core, and what is made there all the same keeps all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from streamer.machine.affinity import (
    APART_S,
    CONTENDED,
    MEASURED_CORES,
    Gathering,
    OneCore,
    everywhere,
    on_one_core,
    pays,
)

choice_of_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, on Linux"
)


@pytest.fixture
def apart() -> Iterator[None]:
    """Puts this process's threads back where they were."""
    before = os.sched_getaffinity(0)
    yield
    for thread in threading.enumerate():
        if thread.native_id is not None:
            os.sched_setaffinity(thread.native_id, before)


def test_they_gather_under_load_and_part_when_it_is_over() -> None:
    gathering = Gathering()
    assert not gathering.decide(1.0, 5.0, 0.0)  # nothing to compare with
    assert gathering.decide(2.0, 5.7, 0.1)
    assert gathering.decide(3.0, 6.1, 0.2)  # less, but not idle
    assert not gathering.decide(4.0, 6.2, 0.2)
    assert not gathering.decide(5.0, 6.7, 0.2)  # not enough to gather anew


def test_they_part_where_another_wants_the_core() -> None:
    """A while of waiting longer than running; a moment of it is nothing."""
    gathering = Gathering()
    used, waited, now = 0.0, 0.0, 1.0

    def check(more_used: float, more_waited: float) -> bool:
        nonlocal used, waited, now
        used, waited, now = used + more_used, waited + more_waited, now + 1
        return gathering.decide(now, used, waited)

    check(0.9, 0.0)
    assert check(0.9, 2.0)  # they were apart
    assert all(check(0.7, 0.8) for _ in range(CONTENDED - 1))
    assert check(0.7, 0.6)
    assert all(check(0.7, 0.8) for _ in range(CONTENDED - 1))
    assert not check(0.7, 0.8)
    assert not any(check(0.9, 0.0) for _ in range(int(APART_S) - 1))
    assert check(0.9, 0.0)


@choice_of_cores
@pytest.mark.parametrize("end", ["idle", "closed"])
def test_one_core_for_all_threads_and_all_cores_again(apart: None, end: str) -> None:
    """The real thing, on this process: busy for a while, then not any more."""
    all_cores = os.sched_getaffinity(0)
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    assert other.native_id is not None
    one_core = OneCore()
    try:
        one_core.check(1.0)
        until = time.process_time() + 0.3  # whatever else this machine does
        while time.process_time() < until:
            pass
        one_core.check(1.3)
        mine = os.sched_getaffinity(0)
        assert len(mine) == 1 and os.sched_getaffinity(other.native_id) == mine
        with everywhere():
            assert os.sched_getaffinity(0) == all_cores
        assert os.sched_getaffinity(0) == mine
        if end == "idle":
            one_core.check(60.0)
        else:
            one_core.close()
        assert os.sched_getaffinity(0) == os.sched_getaffinity(other.native_id) == all_cores
    finally:
        done.set()
        other.join()


@choice_of_cores
def test_a_process_that_is_not_ours_keeps_its_cores(apart: None) -> None:
    """Whoever imports streamer may have placed its threads, before or after: what is made in there is not moved."""
    mine = {min(os.sched_getaffinity(0))}
    os.sched_setaffinity(0, mine)
    with everywhere():
        assert os.sched_getaffinity(0) == mine


def test_it_pays_where_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one core there is no choice, with many nobody knows, and macOS has no such call."""
    for cores in (1, 2, 3, 16):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert pays() is (cores == MEASURED_CORES)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert not pays()


@pytest.mark.parametrize(("setting", "cores", "looks"), [("auto", 2, True), ("auto", 16, False), ("off", 2, False)])
def test_the_setting_decides(monkeypatch: pytest.MonkeyPatch, setting: str, cores: int, looks: bool) -> None:
    """Nobody looks where it is off, or where nobody knows that it pays; and nobody does any more afterwards."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)

    def looking() -> bool:
        return any(thread.name == "cores" for thread in threading.enumerate())

    with on_one_core(setting):
        assert looking() is looks
    assert not looking()
