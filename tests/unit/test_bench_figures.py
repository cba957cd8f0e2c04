"""How a benchmark's rounds are run and compared."""

from __future__ import annotations

from functools import partial

import pytest

from streamer.bench.harness.bench import SUSPENDED, rate_of
from streamer.bench.harness.figures import interleaved, median_ratio
from streamer.bench.reports import KINDS, report_cost
from streamer.cache.gate import Gate
from streamer.cache.links import link_of
from streamer.core.stored import Vault


def test_rounds_turn_the_order_around() -> None:
    """Neither program always runs in the other's wake; each round's results stand at the same place."""
    ran: list[str] = []

    def program(name: str) -> str:
        ran.append(name)
        return f"{name}{ran.count(name)}"

    results = interleaved(3, {name: partial(program, name) for name in "ab"}, lambda _: None)
    assert ran == ["a", "b", "b", "a", "a", "b"]
    assert results == {"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"]}
    assert list(results) == ["a", "b"]


def test_a_ratio_is_that_of_one_round() -> None:
    assert median_ratio([1.0, 6.0, 4.0], [2.0, 2.0, 2.0]) == (2.0, [0.5, 3.0, 2.0])


def test_the_cost_of_reports_is_measured_without_kafka() -> None:
    """Of each kind of answer, beside the encoding of results."""
    section = report_cost(40, 1, lambda _: None)
    assert [figure.name for figure in section.figures] == [kind.name for kind in KINDS]
    assert all(figure.value > 0 for figure in section.figures)


def test_a_run_that_went_without_redis_is_known_by_its_log(caplog: pytest.LogCaptureFixture) -> None:
    """By the words of the warning that its look-ups write."""
    gate = Gate(link_of("redis://127.0.0.1:1", 1.0, Vault(b"")), "look-ups")
    for _ in range(10):
        gate.failed()
    assert SUSPENDED in caplog.text


def test_a_rate_is_that_of_a_part_of_a_run() -> None:
    """Of all results, and of those between two shares of them."""
    times = {0: 100, 10: 100, 20: 100, 30: 300, 40: 300, 90: 100}
    assert rate_of(times) == 900 * 1000 / 90
    assert rate_of(times, 0.3, 0.9) == 600 * 1000 / 20
    assert rate_of({5: 7}) == 0
