"""Partitions that give nothing, and loops that stand still."""

from __future__ import annotations

import logging
import threading

import pytest

from streamer.core.read_progress import StuckWatch
from streamer.telemetry.stacks import StandingWatch

KEY = ("in", 0)


def look(watch: StuckWatch, position: int, end: int, now: float) -> dict[tuple[str, int], int]:
    return watch.look({KEY: position}, {KEY: end}, now)


class TestPartition:
    @pytest.mark.case(13)
    def test_one_that_does_not_move_is_sought_where_it_stands(self) -> None:
        """Not before its time, and once for the same end."""
        watch = StuckWatch(60.0)
        assert look(watch, 5, 9, 0.0) == look(watch, 5, 9, 60.0) == {}
        assert look(watch, 5, 9, 61.0) == {KEY: 5}
        assert look(watch, 5, 9, 200.0) == {}
        assert look(watch, 5, 10, 201.0) == {KEY: 5}

    def test_one_that_moves_or_is_at_its_end_is_left_alone(self) -> None:
        """Slow is not stuck."""
        watch = StuckWatch(60.0)
        for now in range(0, 600, 50):
            assert look(watch, now, 10_000, float(now)) == {}
        assert look(watch, 10_000, 10_000, 601.0) == look(watch, 10_000, 10_000, 700.0) == {}

    def test_one_that_was_not_asked_begins_anew(self) -> None:
        """Paused by us, or held."""
        watch = StuckWatch(60.0)
        look(watch, 5, 9, 0.0)
        watch.look({}, {}, 50.0)
        assert look(watch, 5, 9, 61.0) == {}

    def test_one_whose_end_was_never_heard_of_is_sought_until_it_is(self) -> None:
        """A client that was paused before its first answer can't know that there is something to read."""
        watch = StuckWatch(60.0)
        assert watch.look({KEY: 0}, {}, 0.0) == watch.look({KEY: 0}, {}, 60.0) == {}
        assert watch.look({KEY: 0}, {}, 61.0) == {KEY: 0}
        assert watch.look({KEY: 0}, {}, 121.0) == {}
        assert watch.look({KEY: 0}, {}, 122.0) == {KEY: 0}
        assert look(watch, 0, 0, 183.0) == look(watch, 0, 0, 300.0) == {}

    def test_one_that_could_not_be_sought_begins_anew(self) -> None:
        """For the same end."""
        watch = StuckWatch(60.0)
        look(watch, 5, 9, 0.0)
        assert look(watch, 5, 9, 61.0) == {KEY: 5}
        watch.forget(KEY)
        assert look(watch, 5, 9, 62.0) == look(watch, 5, 9, 122.0) == {}
        assert look(watch, 5, 9, 123.0) == {KEY: 5}

    def test_what_moves_over_old_records_was_stuck(self) -> None:
        """The markers at a transactional topic's end look alike until new records come."""
        watch = StuckWatch(1.0)
        look(watch, 5, 9, 0.0)
        look(watch, 5, 9, 2.0)
        look(watch, 8, 9, 3.0)
        assert watch.healed == 1
        look(watch, 8, 9, 5.0)
        look(watch, 30, 30, 6.0)
        assert watch.healed == 1


def test_stacks_are_written_once_when_something_stands(caplog: pytest.LogCaptureFixture) -> None:
    """Which thread stands where, and no values; again only after it has moved."""
    reasons: list[str] = []
    asked = threading.Semaphore(0)

    def standing() -> list[str]:
        asked.release()
        return list(reasons)

    def ask() -> None:
        for _ in range(3):
            assert asked.acquire(timeout=10)

    def stand() -> None:
        secret = "c4n4ry"  # a value that must not be told
        gate.wait(20)
        del secret

    gate = threading.Event()
    thread = threading.Thread(target=stand, name="standing-thread")
    thread.start()
    watch = StandingWatch(standing, every_s=0.01)
    with caplog.at_level(logging.ERROR):
        watch.start()
        for _ in range(2):
            reasons.append("the core has not ticked for 31 s")
            ask()
            reasons.clear()
            ask()
        watch.close()
    gate.set()
    thread.join()
    said = [record.__dict__["data"] for record in caplog.records]
    assert [data["reasons"] for data in said if "reasons" in data] == [["the core has not ticked for 31 s"]] * 2
    (places, _) = [data["places"] for data in said if data.get("thread") == "standing-thread"]
    assert any(place.endswith("in stand") for place in places)
    assert "c4n4ry" not in str(said)
