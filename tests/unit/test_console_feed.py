"""When the page says that the brokers are away, and when they are only slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from streamer.config.load import load
from streamer.console import feed
from streamer.console.feed import SILENT_MS, Feed, Source
from streamer.errors import DependencyError
from streamer.ops.lag import PipelineLag

PIPELINES = 25
CONFIG = load(
    None,
    {},
    [
        "kafka.bootstrap_servers=127.0.0.1:1",
        "telemetry.reports=",
        *(
            f"pipelines.p{number}.{field}={value}"
            for number in range(PIPELINES)
            for field, value in (("task", "t"), ("model", "builtin:null"), ("input", "in"), ("output", f"out{number}"))
        ),
    ],
)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.case(90)
def test_a_silence_is_one_only_while_an_answer_is_due() -> None:
    """Between two looks nobody was asked, however long that is."""
    source = Source("", answered_ms=0)
    assert source.is_well(SILENT_MS * 100)
    source.asked_ms = 1_000
    assert source.is_well(1_000 + SILENT_MS - 1)
    assert not source.is_well(1_000 + SILENT_MS)
    assert not Source(None).is_well(0)
    assert not Source("away").is_well(0)


@pytest.mark.case(90)
def test_one_late_answer_of_many_pipelines_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two in a row are. Each pipeline's answer counts as one, so that many of them don't add up to a silence. What the
    brokers answer is made up here: real ones are late when they please."""
    late: set[int] = set()
    looks = 0

    class Watch:
        def __init__(self, _config: Any, names: list[str], *_: Any) -> None:
            self.name = names[0]

        def look(self, _now: float) -> list[PipelineLag]:
            nonlocal looks
            looks += 1
            if looks in late:
                raise DependencyError("Kafka at 127.0.0.1:1 does not answer")
            return [PipelineLag(self.name, self.name, [])]

    monkeypatch.setattr(feed, "GroupOffsets", lambda _: None)
    monkeypatch.setattr(feed, "LagWatch", Watch)
    monkeypatch.setattr(feed, "LOOK_S", 0.01)
    late |= {3, 28, 60}
    gathering = Feed(CONFIG, [])
    gathering.start()
    seen: set[bool | None] = set()
    try:

        def passed(number: int) -> bool:
            seen.add(gathering.snapshot(0)["kafka"]["reached"])
            return looks > number

        until(lambda: passed(100))
        assert seen <= {None, True}
        late |= {looks + 20, looks + 21}
        until(lambda: gathering.snapshot(0)["kafka"]["reached"] is False)
    finally:
        gathering.close()
