"""Why a partition stands, judged by where it stands and where its log ends."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer

from streamer.core.standing import Reason, Standing
from streamer.kafka.cluster_view import Ends
from streamer.kafka.outlook import Outlook, Suspect
from streamer.kafka.source_policy import SourcePolicy
from streamer.kafka.standstill import judge
from streamer.kafka.until_end import GIVE_UP_S, GIVE_UP_UNSURE_S, UntilEnd

KEY = ("in", 3)
POLICY = SourcePolicy(["in"], group="g", address="a:1")


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
    found = judge(KEY, suspect, ends, POLICY)
    assert (found and found.reason) == reason
    if found is not None:
        assert found.offset == offset
        assert "--bootstrap-server a:1" in found.fix


class _Client(Consumer):
    """Of one partition that stands at 5 of 9."""

    def position(self, partitions):  # type: ignore[no-untyped-def]
        partitions[0].offset = 5
        return partitions

    def get_watermark_offsets(self, partition, timeout=-1, cached=False):  # type: ignore[no-untyped-def]
        return 0, 9


def test_a_suspect_had_its_chance_only_while_it_was_asked() -> None:
    """A pause throws away what was fetched, and an empty queue before its end says nothing."""
    client = _Client({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0})
    outlook = Outlook(stuck_s=1_000.0, stand_s=10.0)

    def look(now: float, *, paused: bool = False) -> dict[tuple[str, int], Suspect]:
        outlook.look(client, {KEY: 1}, {KEY: 5}, {KEY} if paused else frozenset(), now, {})
        return outlook.suspects

    assert look(1.0) == {}
    assert look(11.0) == {KEY: Suspect(5, False)}  # nobody found the queue empty
    outlook.idle(12.0)
    assert look(13.0) == {KEY: Suspect(5, True)}
    assert look(14.0, paused=True) == {KEY: Suspect(5, False)}
    assert look(16.0) == look(20.0) == {KEY: Suspect(5, False)}
    outlook.idle(25.0)
    assert look(27.0) == {KEY: Suspect(5, True)}
    assert outlook.ahead[KEY].since == 1.0
    client.close()


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
    assert end.in_vain([KEY, ("other", 0)], lambda: [one], True, 0.0) == ""
    assert end.in_vain([KEY, ("other", 0)], lambda: [one], True, 1_000.0) == ""
    assert end.in_vain([KEY], lambda: [one], False, 1_001.0) == ""
    assert end.in_vain([KEY], list, True, 1_002.0) == ""
    assert end.in_vain([KEY], lambda: [one], True, 2_000.0) == ""
    assert end.in_vain([KEY], lambda: [one], True, 2_000.0 + within_s) == ""
    assert str(one) in end.in_vain([KEY], lambda: [one], True, 2_001.0 + within_s)
