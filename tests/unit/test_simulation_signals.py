"""A pipeline that stands says so: planted bugs that end all progress are told by name, and without the general rule of
`core/unanswered` the judge finds each of them silent."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.core import membership
from streamer.core.pipeline import fleet, flow, settling
from streamer.core.unanswered import Unanswered
from streamer.simulation.faults import FAULTS
from streamer.testing import cache, source, transactional_sink
from tests.unit.simulation_kit import first_failing, plant

SEEDS = 100
SILENT = "all signals are well"
TOLD = "(unknown): its next record has had no answer for"

STANDING: dict[str, tuple[Any, str, str, str]] = {
    "a source stops fetching a partition": (
        source.MemorySource,
        "_take",
        "in list(positions.items()):",
        "in [one for one in positions.items() if one[0][1] != 1 or one[1] < 10]:",
    ),
    "a partition that comes back is left paused": (
        membership.Membership,
        "_begin",
        "self.reached.update(offsets)",
        "self.reached.update(offsets if self.epoch < 3 else {})",
    ),
    "a worker that never answers is never killed": (
        fleet.Fleet,
        "started",
        "worker.deadline = now + self.lease_s",
        "worker.deadline = float('inf')",
    ),
    "a sink does not begin a plan": (
        transactional_sink.MemorySink,
        "settle",
        "self._task.wake()",
        "plan.settle % 10 == 9 or self._task.wake()",
    ),
    "a plan that came to nothing is never made again": (
        settling.Settling,
        "unsettled",
        "min(ABORT_PAUSE_S * 2 ** (self.rollbacks - 1), ABORT_PAUSE_MAX_S)",
        "1e9",
    ),
    "a look-up is not answered": (
        cache.MemoryCache,
        "look_up",
        "self._clock.later(self.delay_s, lambda: self._post(fact))",
        "pass",
    ),
    "nothing is granted after the first window": (
        flow.Flow,
        "grant",
        "self.freed_bytes + self.budget_bytes",
        "self.budget_bytes",
    ),
    "suspects are put aside and forgotten": (
        fleet.Fleet,
        "lost",
        "self.suspects.extend(blamed)",
        "pass",
    ),
}


@pytest.fixture(params=list(STANDING))
def standing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A planted bug; one of them needs a cache that is slow."""
    strike_more_often(monkeypatch, "cache_slow")
    plant(monkeypatch, *STANDING[request.param])
    return str(request.param)


@pytest.mark.case(96)
def test_the_judge_finds_what_stands_in_silence(standing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody names the cause, and the general rule is away: a minute later the law is broken."""
    monkeypatch.setattr(Unanswered, "look", lambda *_: [])
    print(f"{standing}: {first_failing(SEEDS, SILENT)}")


@pytest.mark.case(92)
def test_what_stands_is_told(standing: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the rule, it is not silence that is found: a partition is named, with the offset at which it stands."""
    print(f"{standing}: {first_failing(SEEDS, TOLD).anomaly}")
    assert SILENT not in capsys.readouterr().out


def test_the_judge_finds_an_open_transaction_of_which_nobody_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing behind it can be read, so that the general rule sees nothing: who reads has to name it."""
    strike_more_often(monkeypatch, "open_input")
    monkeypatch.setattr(source.MemorySource, "standing", lambda _: [])
    assert "law 7" in first_failing(SEEDS, SILENT).anomaly


def strike_more_often(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let this kind of fault be a fifth of all."""
    monkeypatch.setitem(FAULTS, kind, (8.0, FAULTS[kind][1]))
