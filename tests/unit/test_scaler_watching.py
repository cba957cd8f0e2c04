"""Who asks the scaler is told what was seen last, and why when nothing was."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from streamer.core.scaling import Backlog
from streamer.errors import DependencyError, StreamerError
from streamer.ops.scaling import ScaleWatch, Seen
from streamer.scaler import watching
from streamer.scaler.watching import Watching

EVERY_S = 0.05


class Brokers:
    """They answer what they are told to."""

    def __init__(self) -> None:
        self.answer: Callable[[], Seen] = lambda: seen(0)
        self.reports: Callable[[], None] = lambda: None

    def look(self, _: str) -> Seen:
        return self.answer()

    def read_reports(self) -> None:
        self.reports()


def seen(records: int, age_s: float = 0.0) -> Seen:
    return Seen(time.monotonic() - age_s, Backlog(1, records), -math.inf, None)


def fails(error: Exception) -> Callable[[], Any]:
    """An answer that is none."""

    def answer() -> Any:
        raise error

    return answer


def watched(story: Callable[[Watching, Brokers], Coroutine[Any, Any, None]]) -> None:
    """Play it."""

    async def played() -> None:
        brokers = Brokers()
        looks = Watching(cast("ScaleWatch", brokers), EVERY_S)
        try:
            async with asyncio.timeout(60):
                await story(looks, brokers)
        finally:
            looks.close()

    asyncio.run(played())


def test_brokers_that_come_back_are_told_to_who_listens(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is an error to who asks, is logged once, and ends no stream."""
    caplog.set_level(logging.INFO)

    async def story(looks: Watching, brokers: Brokers) -> None:
        brokers.answer = fails(DependencyError("no broker"))
        stream = looks.every("p")
        waiting = asyncio.ensure_future(anext(stream))
        with pytest.raises(DependencyError, match="no broker"):
            await looks.now("p")
        await asyncio.sleep(4 * EVERY_S)
        assert not waiting.done()
        brokers.answer = lambda: seen(7)
        assert (await waiting).backlog.records == 7
        assert (await looks.now("p")).works
        brokers.answer = lambda: seen(0)
        while (await anext(stream)).works:
            pass

    watched(story)
    said = [record.message for record in caplog.records if record.name.startswith("streamer.scaler")]
    assert said == ["a pipeline can't be looked at", "a pipeline has work", "a pipeline has no work"]


def test_what_is_old_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a look of long ago, nor one that does not end."""

    async def story(looks: Watching, brokers: Brokers) -> None:
        brokers.answer = lambda: seen(7, age_s=100)
        with pytest.raises(DependencyError, match="the brokers' last answer about pipeline p is 100 s old"):
            await looks.now("p")
        monkeypatch.setattr(watching, "STALE_S", 0.05)
        brokers.answer = lambda: time.sleep(0.5) or seen(7)  # type: ignore[func-returns-value]
        with pytest.raises(DependencyError, match=r"did not answer about pipeline q within 0.05 s"):
            await looks.now("q")

    watched(story)


def test_a_bug_is_no_number_and_reports_are_no_condition(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody foresaw goes to the log with its place; without reports there are looks all the same."""

    async def story(looks: Watching, brokers: Brokers) -> None:
        brokers.reports = fails(DependencyError("no reports"))
        brokers.answer = fails(ZeroDivisionError("told to nobody"))
        with pytest.raises(
            StreamerError, match="this scaler failed to look at pipeline p: ZeroDivisionError"
        ) as raised:
            await looks.now("p")
        assert type(raised.value) is StreamerError

    watched(story)
    assert any(record.exc_info for record in caplog.records)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "reports can't be read: the replicas' capacity is not learned",
        "a pipeline can't be looked at",
    ]
