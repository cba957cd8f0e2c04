"""What `streamer status` keeps of what it reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from streamer.config.load import load
from streamer.ops import status_watch
from streamer.ops.lag import PipelineLag
from streamer.ops.status_watch import StatusWatch
from tests.records import FakeRecord
from tests.unit.test_tally import report

OTHERS = 3_000


class Brokers:
    """No brokers: nobody is in any group, nothing waits, and many pipelines write reports."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Brokers:
        return self

    def __exit__(self, *_: object) -> None: ...

    def members(self, groups: Iterable[str]) -> dict[str, list[str]]:
        return {group: ["a"] for group in groups}

    def look(self, _now_s: float) -> list[PipelineLag]:
        return [PipelineLag("p", "g", [])]

    def read_until_end(self, _timeout_s: float) -> Iterable[FakeRecord]:
        yield FakeRecord(b"[" * 100_000)
        for number in range(OTHERS):
            told = report(results=1)
            told.pipeline = f"other-{number}" if number else "p"
            yield FakeRecord(msgspec.json.encode(told))


def test_only_pipelines_that_are_watched_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes to the reports' topic does not make a watch of months grow; a driver that is silent is named."""
    for name in ("GroupOffsets", "LagWatch", "Reader", "connect"):
        monkeypatch.setattr(status_watch, name, Brokers)
    monkeypatch.setattr(status_watch, "describe", lambda *_: {"streamer.reports": True})
    fields = ("task=t", "model=builtin:null", "input=in", "output=out")
    config = load(None, {}, [f"pipelines.p.{field}" for field in fields])
    url = "http://127.0.0.1:1/metrics"
    with StatusWatch(config, ["p"], [url]) as watch:
        for _ in range(2):
            (found,) = watch.look()
            assert (found.pipeline, found.state, found.model) == ("p", "idle", "m")
        assert list(watch.silent) == [url] and "does not answer with metrics" in watch.silent[url]
        assert list(watch._series) == ["p"]
