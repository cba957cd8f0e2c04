"""What stands is in the log, in /readyz and in the metrics at once, whoever names it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

import pytest

from streamer.app.meter import show_stuck
from streamer.app.observe import Signals, unready
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.core.unanswered import LIMIT_S, ReadState
from streamer.telemetry.metrics import Metrics
from tests.unit.pipeline_kit import Kit

FIRST: TopicPartition = ("in", 0)
AHEAD: Mapping[TopicPartition, ReadState] = {FIRST: ReadState(5, 9), ("in", 1): ReadState(3, 3)}


def stuck(metrics: Metrics, reason: Reason) -> float | None:
    return metrics.registry.get_sample_value("streamer_stuck_partitions", {"pipeline": "p", "reason": reason.value})


@pytest.mark.case(95)
def test_what_nobody_names_is_said_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    """In /readyz, in the log once a minute and in the gauge; and nowhere once the record has its answer."""
    kit, metrics = Kit(), Metrics("p")
    ahead = dict(AHEAD)
    signals = Signals((), lambda: ahead, show=partial(show_stuck, metrics))

    def look() -> list[str]:
        signals.tick(kit.pipeline, kit.now)
        return unready(kit.pipeline, owns=True, plan_since=None, standings=signals.standings, now=kit.now)

    for _ in range(int(LIMIT_S)):
        assert not look()
        kit.now += 1.0
    with caplog.at_level(logging.ERROR, "streamer"):
        for _ in range(60):
            kit.now += 1.0
            reasons = look()
    assert len(reasons) == 1
    assert reasons[0].startswith("in/0 stands at offset 5 (unknown): its next record has had no answer for ")
    assert [record.data for record in caplog.records] == [  # type: ignore[attr-defined]
        {"topic": "in", "partition": 0, "offset": 5, "reason": "unknown"}
    ]
    assert stuck(metrics, Reason.UNKNOWN) == 1
    ahead[FIRST] = ReadState(9, 9)
    kit.now += 1.0
    assert not look()
    assert stuck(metrics, Reason.UNKNOWN) == 0


@pytest.mark.parametrize("named", [FIRST, ("in", -1)])
def test_who_knows_the_reason_is_believed(named: TopicPartition) -> None:
    """The partition, or its whole topic, has a reason: it does not stand for an unknown one beside that."""
    kit, metrics = Kit(), Metrics("p")
    known = Standing(named, 5, Reason.UNREADABLE, "a batch is damaged", "restore it")
    signals = Signals((lambda: [known],), lambda: AHEAD, show=partial(show_stuck, metrics))
    for _ in range(int(LIMIT_S) + 10):
        kit.now += 1.0
        signals.tick(kit.pipeline, kit.now)
    assert signals.standings.current == (known,)
    assert stuck(metrics, Reason.UNKNOWN) == 0
