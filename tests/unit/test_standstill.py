"""Why a partition stands, judged by where it stands and where its log ends."""

from __future__ import annotations

import pytest

from streamer.core.obstacles import GIVE_UP_S, GIVE_UP_UNSURE_S, Ends, UntilEnd, judge
from streamer.core.read_progress import ReadProgress, Suspect
from streamer.core.standing import Reason, Standing

KEY = ("in", 3)


@pytest.mark.parametrize(
    ("suspect", "ends", "reason", "offset"),
    [
        (Suspect(9, True), Ends(9, 9), None, -1),
        (Suspect(9, True), Ends(9, 20), Reason.OPEN_TRANSACTION, 9),
        (Suspect(9, False), Ends(9, 20), Reason.OPEN_TRANSACTION, 9),
        (Suspect(9, True), Ends(15, 20), Reason.UNKNOWN, 9),
        (Suspect(9, False), Ends(15, 20), None, -1),  # it had no chance yet
        (Suspect(30, True), Ends(20, 20), None, -1),  # the client is told that it is out of range
    ],
)
def test_why(suspect: Suspect, ends: Ends, reason: Reason | None, offset: int) -> None:
    found = judge(KEY, suspect, ends, group="g", address="a:1", stand_s=20.0)
    assert (found and found.reason) == reason
    if found is not None:
        assert found.offset == offset
        assert "--bootstrap-server a:1" in found.fix


def test_a_suspect_had_its_chance_only_while_it_was_asked() -> None:
    """A pause throws away what was fetched, and an empty queue before its end says nothing."""
    read_progress = ReadProgress(stuck_s=1_000.0, stand_s=10.0)

    def look(now: float, *, paused: bool = False) -> dict[tuple[str, int], Suspect]:
        read_progress.look({KEY: 5}, {KEY: 9}, {KEY} if paused else frozenset(), now)
        return read_progress.suspects

    assert look(1.0) == {}
    assert look(11.0) == {KEY: Suspect(5, False)}  # nobody found the queue empty
    read_progress.idle(12.0)
    assert look(13.0) == {KEY: Suspect(5, True)}
    assert look(14.0, paused=True) == {KEY: Suspect(5, False)}
    assert look(16.0) == look(20.0) == {KEY: Suspect(5, False)}
    read_progress.idle(25.0)
    assert look(27.0) == {KEY: Suspect(5, True)}
    assert read_progress.ahead[KEY].since == 1.0


@pytest.mark.parametrize(
    ("place", "reason", "within_s"),
    [
        (KEY, Reason.OPEN_TRANSACTION, GIVE_UP_S),
        (("in", -1), Reason.INPUT_MISSING, GIVE_UP_S),
        (KEY, Reason.UNKNOWN, GIVE_UP_UNSURE_S),
    ],
)
def test_a_run_to_the_end_gives_up_what_stands(place: tuple[str, int], reason: Reason, within_s: float) -> None:
    """Once nothing else is left and all is settled, and not before its time."""
    one = Standing(place, 5, reason, "why", "fix")
    end = UntilEnd()
    assert end.give_up_reason([KEY, ("other", 0)], lambda: [one], True, 0.0) == ""
    assert end.give_up_reason([KEY, ("other", 0)], lambda: [one], True, 1_000.0) == ""
    assert end.give_up_reason([KEY], lambda: [one], False, 1_001.0) == ""
    assert end.give_up_reason([KEY], list, True, 1_002.0) == ""
    assert end.give_up_reason([KEY], lambda: [one], True, 2_000.0) == ""
    assert end.give_up_reason([KEY], lambda: [one], True, 2_000.0 + within_s) == ""
    assert str(one) in end.give_up_reason([KEY], lambda: [one], True, 2_001.0 + within_s)
