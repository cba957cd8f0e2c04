"""The lines that a pipeline's life is told in, by a clock that is set by hand."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from streamer.app.life import ENDS, Life, Wait, say_loading
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import Lost
from streamer.core.pipeline.worker import State
from streamer.core.tally import Tally, Vitals
from streamer.errors import ExitCode
from tests.unit.pipeline_kit import CARD, Kit
from tests.unit.test_tally import report


class Told:
    """A life, and what it says."""

    def __init__(self, caplog: pytest.LogCaptureFixture, workers: int = 1) -> None:
        caplog.set_level(logging.INFO, "streamer")
        self._caplog = caplog
        self.now = 100.0
        self.shown: list[Vitals | None] = []
        self.life = Life("p", workers, Tally(), lambda: (0, 0.0), self.shown.append, clock=lambda: self.now)
        self.kit = Kit(Policy("p", workers=workers))
        self.kit.feed(Lost(frozenset({("in", 0), ("in", 1)})))

    def after(self, seconds: float) -> list[str]:
        """What it says meanwhile, ticking twenty times a second."""
        self._caplog.clear()
        until = self.now + seconds
        while self.now < until:
            self.now += 0.05
            self.life.tick(self.kit.pipeline, self.now)
        return self.said()

    def said(self) -> list[str]:
        return [record.words for record in self._caplog.records]  # type: ignore[attr-defined]

    def facts(self) -> dict[str, Any]:
        """Of the last line."""
        found: dict[str, Any] = self._caplog.records[-1].data  # type: ignore[attr-defined]
        return found


def test_a_healthy_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Loading, ready, a line a minute, the end: each once, with its numbers."""
    told = Told(caplog)
    say_loading("m", "t", 2, "auto")
    assert told.said() == ["loading m for t in 2 workers"]
    assert told.after(1) == ["ready after 50 ms: 1 worker on cpu, float32 by torch, revision r1"]
    told.life.behind = lambda: (1_200, 3.5)
    told.life.tally.add(report(600, {"decode.json": 2}, cached=150))
    assert told.after(58) == []
    assert told.after(2) == ["10.0 results/s; 1,200 behind (3.5 s); 25% cached; dead letters: decode.json 2"]
    assert told.facts()["dead_letters"] == {"decode.json": 2} and told.facts()["lag_records"] == 1_200
    told.life.behind = lambda: (0, 0.0)
    assert told.after(60) == ["0.0 results/s; nothing waits"]
    caplog.clear()
    told.life.ended(ExitCode.DONE, "SIGTERM")
    (words,) = told.said()
    assert words.endswith(
        "with exit code 0 (stopped by SIGTERM): took 602 records: 600 results (150 cached), "
        "2 dead letters (decode.json 2), 0 skipped"
    )
    assert told.facts()["records"] == 602 and told.shown[-1] is None


def test_it_is_ready_with_those_workers_that_are(caplog: pytest.LogCaptureFixture) -> None:
    """The others get a few seconds; then it is said how many there are."""
    told = Told(caplog, workers=2)
    told.kit.pipeline.fleet.workers[1].state = State.STARTING
    assert told.after(4) == []
    assert told.after(2) == ["ready after 50 ms: 1 of 2 workers on cpu, float32 by torch, revision r1"]


def test_a_wait_is_said_after_a_while_and_then_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    """What takes no longer than usual is not said; another wait begins anew."""
    told = Told(caplog)
    told.kit.pipeline.answering.card = None
    wait = Wait("the model to load", 10.0)
    told.life.waits = lambda: wait
    assert told.after(9) == []
    assert told.after(2) == ["waiting for the model to load, for 10 s so far"]
    assert told.after(58) == []
    (line,) = told.after(3)
    assert line in [f"waiting for the model to load, for {seconds} s so far" for seconds in (70, 71)]
    wait = Wait("group g to assign partitions", 5.0)
    told.kit.pipeline.answering.card = CARD
    assert len(told.after(4)) == 1  # that it is ready
    assert told.after(3) == ["waiting for group g to assign partitions, for 5 s so far"]
    assert told.shown[-1] is not None and told.shown[-1].waits_for == wait.what


def test_the_live_rate_is_that_of_the_last_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """Results alone count, and what was long ago does not."""
    told = Told(caplog)
    told.after(1)
    for _ in range(10):
        told.life.tally.add(report(100, {"decode.json": 1}))
        told.after(1)
    shown = told.shown[-1]
    assert shown is not None and 80 <= shown.rate <= 120 and shown.dead_letters == 10
    told.after(10)
    shown = told.shown[-1]
    assert shown is not None and shown.rate == 0


def test_each_end_has_words() -> None:
    """Whatever a pipeline ends with."""
    others = {ExitCode.SOME_FAILED, ExitCode.ATTENTION, ExitCode.SECOND_SIGNAL}
    assert set(ExitCode) == ENDS.keys() | others
    assert max(Counter(ENDS.values()).values()) == 1
