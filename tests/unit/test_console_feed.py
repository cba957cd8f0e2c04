"""When the page says that the brokers are away, and when they are only slow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from streamer.config.load import load
from streamer.console import feed
from streamer.console.feed import Feed
from streamer.console.source import SILENT_MS, Source
from streamer.errors import ConfigurationError, DependencyError
from streamer.ops.lag import PipelineLag
from tests.records import FakeRecord
from tests.unit.test_tally import report
from tests.waiting import wait_for

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


class Offsets:
    """No brokers: nobody is in any group."""

    def members(self, groups: Iterable[str]) -> dict[str, list[str]]:
        return {group: [] for group in groups}


def gather(monkeypatch: pytest.MonkeyPatch, look: Callable[[list[str]], None]) -> Feed:
    """A feed whose brokers are made up, since real ones are late when they please: `look` may raise for a look at these
    pipelines."""

    class Watch:
        def __init__(self, _config: Any, names: Iterable[str], *_: Any) -> None:
            self.names = list(names)

        def look(self, _now: float, names: list[str] | None = None) -> list[PipelineLag]:
            look(names or self.names)
            return [PipelineLag(name, name, []) for name in names or self.names]

    monkeypatch.setattr(feed, "GroupOffsets", lambda _: Offsets())
    monkeypatch.setattr(feed, "LagWatch", Watch)
    monkeypatch.setattr(feed, "LOOK_S", 0.01)
    monkeypatch.setattr(feed, "KEEP_MS", -1)
    monkeypatch.setattr(feed, "CLOSE_S", 0.01)
    return Feed(CONFIG, [])


def told(gathering: Feed) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gathering.overview())
    return found


@pytest.mark.case(90)
def test_one_late_answer_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two in a row are. All pipelines are looked at at once."""
    late = {3, 28, 60}
    looks = 0

    def look(names: list[str]) -> None:
        nonlocal looks
        assert len(names) == PIPELINES
        looks += 1
        if looks in late:
            raise DependencyError("Kafka at 127.0.0.1:1 does not answer")

    gathering = gather(monkeypatch, look)
    gathering.start()
    seen: set[bool | None] = set()
    try:

        def passed(number: int) -> bool:
            seen.add(told(gathering)["kafka"]["reached"])
            return looks > number

        wait_for(lambda: passed(100))
        assert seen <= {None, True}
        late |= {looks + 20, looks + 21}
        wait_for(lambda: told(gathering)["kafka"]["reached"] is False)
    finally:
        gathering.close()


def test_one_pipeline_that_lacks_a_right_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch fails for all, so that each is looked at alone."""

    def look(names: list[str]) -> None:
        if "p3" in names:
            raise ConfigurationError("no right to Describe topic in")

    gathering = gather(monkeypatch, look)
    gathering.start()
    try:
        wait_for(lambda: told(gathering)["kafka"]["reached"] is True)
        rows = {row["name"]: row for row in told(gathering)["pipelines"]}
        assert rows["p3"]["lag_records"] is None
        assert {row["lag_records"] for name, row in rows.items() if name != "p3"} == {0}
        assert {row["members"] for row in rows.values()} == {0}
        found = gathering.pipeline("p3", 0)
        assert found is not None
        assert found["lag_error"] == "no right to Describe topic in"
    finally:
        gathering.close()


def test_an_overview_is_made_once_for_all_browsers() -> None:
    """Whoever asks within half a second gets the same bytes."""
    gathering = Feed(CONFIG, [])
    assert gathering.overview() is gathering.overview()


def test_pipelines_that_only_reports_tell_of_are_bounded() -> None:
    """Those of the configuration are always shown, and of others so many."""
    gathering = Feed(CONFIG, [])
    records = []
    for number in range(3 * feed.MAX_STRANGERS):
        told_of = report(results=1)
        told_of.pipeline = f"stranger-{number}"
        records.append(FakeRecord(msgspec.json.encode(told_of)))
    gathering._fold(records)
    assert len(told(gathering)["pipelines"]) == PIPELINES + feed.MAX_STRANGERS
