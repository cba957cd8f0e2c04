"""Why a partition stands, judged by where it stands and where its log ends."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.core.intake import SourcePolicy
from streamer.core.obstacles import GIVE_UP_S, GIVE_UP_UNSURE_S, Ends, UntilEnd, judge
from streamer.core.read_progress import ReadProgress, Suspect
from streamer.core.standing import Reason, Standing
from streamer.kafka.source import cluster as cluster_module
from streamer.kafka.source.cluster import StandstillWatch
from tests.waiting import wait_for

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


class Cluster:
    """What `ClusterView` would tell of brokers: which topics are missing, and where the others end."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.asked: list[set[str]] = []
        self.error: Exception | None = None

    def missing(self, topics: Iterable[str]) -> frozenset[str]:
        self.asked.append(set(topics))
        if self.error is not None:
            raise self.error
        return frozenset(self.asked[-1] & self.gone)

    def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Ends]:
        return {key: Ends(9, 20) for key in partitions}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, dict[tuple[str, int], Suspect], Any]]:
    """A watch that looks all the time, and what it is told: the cluster, and the suspects."""
    monkeypatch.setattr(cluster_module, "LOOK_EVERY_S", 0.005)
    cluster, suspects = Cluster(), dict[tuple[str, int], Suspect]()
    policy = SourcePolicy(["in"], group="g", address="a:1", stand_s=20.0)
    watch = StandstillWatch(cluster, policy, lambda: suspects)  # type: ignore[arg-type]
    watch.start()
    yield cluster, suspects, watch
    watch.close()
    watch._thread.join(20)
    assert not watch._thread.is_alive()


def test_a_watch_asks_the_brokers_only_of_what_stands(watched: Any) -> None:
    """And says no more of it once it moves."""
    cluster, suspects, watch = watched
    time.sleep(0.05)
    assert cluster.asked == []
    suspects[KEY] = Suspect(9, True)
    wait_for(lambda: watch.blocked == {KEY})
    assert watch.highs == {KEY: 20}
    assert {frozenset(topics) for topics in cluster.asked} == {frozenset({"in"})}
    suspects.clear()
    wait_for(lambda: watch.standings == () and watch.highs == {})


@pytest.mark.parametrize("is_told", [True, False])
def test_a_topic_that_is_missed_is_asked_for_until_it_is_there(watched: Any, is_told: bool) -> None:
    """While it is gone that is the reason, and the only one, for its partitions."""
    cluster, suspects, watch = watched
    cluster.gone.add("in")
    suspects[KEY] = Suspect(9, True)
    if is_told:
        watch.misses("in")
    wait_for(lambda: [one.reason for one in watch.standings] == [Reason.INPUT_MISSING])
    assert watch.unsure
    suspects.clear()
    cluster.gone.clear()
    wait_for(lambda: not watch.unsure and watch.standings == ())


@pytest.mark.parametrize(
    ("error", "word"),
    [(TimeoutError(), "no answer"), (KafkaException(KafkaError(KafkaError._TRANSPORT)), "_TRANSPORT")],
)
def test_brokers_that_do_not_answer_leave_the_reason_open(watched: Any, error: Exception, word: str) -> None:
    """The thread goes on, and the reason is there once they do."""
    cluster, suspects, watch = watched
    cluster.error = error
    suspects[KEY] = Suspect(9, True)
    wait_for(lambda: [one.reason for one in watch.standings] == [Reason.UNKNOWN])
    assert word in str(watch.standings[0])
    assert watch.blocked == set()
    cluster.error = None
    wait_for(lambda: [one.reason for one in watch.standings] == [Reason.OPEN_TRANSACTION])


def test_without_a_view_nothing_is_started() -> None:
    """As in a process that may not ask the brokers."""
    watch = StandstillWatch(None, SourcePolicy(["in"]), dict)
    watch.start()
    assert watch._thread.ident is None
