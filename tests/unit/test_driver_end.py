"""The end of the driver's loop."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

from streamer.app.driver import Adapters, Driver, Observer
from streamer.core.pipeline.protocol import Input, Settled, SourceFailed, Unsettled
from streamer.errors import ExitCode
from tests.unit.pipeline_kit import Kit


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
