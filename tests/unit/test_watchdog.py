"""A sink that stands in one call ends the process; one that waits for brokers does not."""

from __future__ import annotations

from streamer.app.observe import Watchdog
from streamer.core.events.codec import Codec
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import SinkFailed
from streamer.errors import ExitCode

PIPELINE = Pipeline(Policy("p"), Codec("p"))


def test_a_call_that_does_not_return_is_given_up_once() -> None:
    """After the limit the process is told to end, once, with the code that says a restart helps; meanwhile the sink
    may leave the call."""
    told: list[SinkFailed] = []
    relieved: list[float] = []
    watchdog = Watchdog(lambda: 100.0, relieved.append, told.append, limit_s=90.0)
    watchdog.tick(PIPELINE, 189.0)
    assert not told
    watchdog.tick(PIPELINE, 191.0)
    watchdog.tick(PIPELINE, 192.0)
    assert [failure.exit_code for failure in told] == [ExitCode.DEPENDENCY]
    assert relieved == [189.0, 191.0, 192.0]


def test_an_idle_sink_is_left_alone() -> None:
    """Nothing to settle, nothing to wait for."""
    told: list[SinkFailed] = []
    Watchdog(lambda: None, lambda _: None, told.append, limit_s=90.0).tick(PIPELINE, 1e6)
    assert not told
