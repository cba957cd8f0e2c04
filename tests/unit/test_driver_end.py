"""The driver's loop: when it wakes, and how it ends."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

from streamer.app.driver import TICK_S, Adapters, Driver, Observer
from streamer.core.pipeline.protocol import Input, Settled, SourceFailed, Unsettled
from streamer.errors import ExitCode
from streamer.testing import ManualClock
from tests.unit.pipeline_kit import Kit, segment, taken


class Idle:
    """An adapter that does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class LateSink(Idle):
    """Ends the plan under way while it closes."""

    def __init__(self, inbox: SimpleQueue[Input]) -> None:
        self._inbox = inbox

    def close(self, _: float) -> None:
        self._inbox.put(Settled(7))
        self._inbox.put(Unsettled(8, "abort"))


class Listener(Observer):
    """Notes how plans ended."""

    def __init__(self) -> None:
        self.heard: list[Input] = []

    def facts(self, fact: Input) -> None:
        if isinstance(fact, Settled | Unsettled):
            self.heard.append(fact)


def test_a_plan_that_ends_while_all_closes_is_heard_of() -> None:
    """It counts: what was settled is settled."""
    inbox: SimpleQueue[Input] = SimpleQueue()
    listener, idle = Listener(), Idle()
    inbox.put(SourceFailed(ExitCode.DEPENDENCY, "the group is gone"))
    adapters = Adapters(idle, LateSink(inbox), idle, idle, (listener,))
    driver = Driver(Kit().pipeline, inbox, adapters)
    assert driver.run() is ExitCode.DEPENDENCY
    assert listener.heard == [Settled(7), Unsettled(8, "abort")] and driver.last_words == "the group is gone"


class Waits(SimpleQueue[Input]):
    """An inbox that stays empty for so long, and notes how long it was waited for; it ends the run then."""

    def __init__(self, clock: ManualClock, rounds: int) -> None:
        self.waits: list[float] = []
        self._clock, self._rounds = clock, rounds

    def get(self, block: bool = True, timeout: float | None = None) -> Input:
        assert timeout is not None
        self.waits.append(round(timeout, 6))
        self._clock.now += timeout
        if len(self.waits) == self._rounds:
            return SourceFailed(ExitCode.DEPENDENCY, "enough")
        raise Empty


def test_the_driver_wakes_when_a_rest_is_over() -> None:
    """The next plan is not made a whole tick later, also where the rest has passed just before it looks."""
    clock, idle, kit = ManualClock(), Idle(), Kit()
    clock.now = kit.now
    kit.feed(taken(1, segment([b"{"])), taken(2, segment([b"{"], first=1)))
    kit.feed(Settled(kit.settles()[0].settle, rest_s=0.002))
    clock.now += 0.0005
    inbox = Waits(clock, 3)
    driver = Driver(kit.pipeline, inbox, Adapters(idle, idle, idle, idle), lambda: clock.now)
    driver.run()
    assert inbox.waits == [0.0015, TICK_S, TICK_S] and kit.pipeline.settling.under_way is not None
    kit.pipeline.settling.rests_until = clock.now - 1
    assert driver._wait_s() == 0
