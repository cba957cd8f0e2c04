"""How often a line of one cause is written, with a hand-set clock."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from streamer.telemetry.log_limit import EVERY_S, MOST_INFO, MOST_OF_LOGGER, LogLimit


def line(message: str, level: int = logging.WARNING, name: str = "streamer.x", **data: Any) -> logging.LogRecord:
    record = logging.LogRecord(name, level, __file__, 1, message, (), None)
    record.data = data
    return record


@pytest.mark.case(79)
def test_one_at_once_then_one_a_minute() -> None:
    """The next one that is written says how many were left out; numbers make no other cause."""
    limit = LogLimit()
    assert limit.admit(line("no answer for 3 s", offset=7), 0.0) == 0
    assert [limit.admit(line(f"no answer for {n} s", offset=n), n / 1000) for n in range(4, 54)] == [None] * 50
    assert limit.admit(line("no answer for 60 s", offset=8), 60.0) == 50
    assert limit.admit(line("no answer for 61 s", offset=8), 61.0) is None


@pytest.mark.parametrize("thing", ["topic", "partition", "worker", "broker", "pipeline"])
def test_other_things_are_other_causes(thing: str) -> None:
    """Of ten partitions that stand each is named at once."""
    limit = LogLimit()
    stand: list[dict[str, Any]] = [{thing: n} for n in range(10)]
    assert [limit.admit(line("stands", **one), 0.0) for one in stand] == [0] * 10
    assert [limit.admit(line("stands", **one), 1.0) for one in stand] == [None] * 10


@pytest.mark.parametrize(
    ("one", "again", "other"),
    [
        (
            "orders [3]: offset 17 is out of range",
            "orders [3]: offset 18 is out of range",
            "orders [4]: offset 17 is out",
        ),
        ("orders/3/17 can't be read", "orders/3/18 can't be read", "orders/4/17 can't be read"),
        ("worker 0 is lost after 3 s", "worker 0 is lost after 4 s", "worker 1 is lost after 3 s"),
        ("h:9092/1: timed out after 30 ms", "h:9092/1: timed out after 31 ms", "h:9092/2: timed out after 30 ms"),
    ],
)
def test_things_that_are_named_in_the_text(one: str, again: str, other: str) -> None:
    """As the Kafka client names them."""
    limit = LogLimit()
    assert [limit.admit(line(text), 0.0) for text in (one, again, other)] == [0, None, 0]


def test_reasons_and_words_are_causes() -> None:
    """What is said otherwise is heard."""
    limit = LogLimit()
    assert limit.admit(line("a settle was rolled back", reason="commit"), 0.0) == 0
    assert limit.admit(line("a settle was rolled back", reason="fenced"), 0.0) == 0
    assert limit.admit(line("another"), 0.0) == 0
    assert limit.admit(line("another", logging.ERROR), 0.0) == 0


def test_what_was_left_out_last_is_said_in_the_end() -> None:
    """A loop that ended is counted, too: after a minute, or when the process ends."""
    limit = LogLimit()
    for n in range(5):
        limit.admit(line(f"attempt {n}"), 0.0)
    assert limit.due(1.0) == []
    ((last, left_out),) = limit.due(EVERY_S)
    assert (last.getMessage(), left_out) == ("attempt 4", 3)
    assert limit.due(2 * EVERY_S) == []
    limit.admit(line("attempt"), 200.0)
    limit.admit(line("attempt"), 200.0)
    assert [left_out for _, left_out in limit.due(200.1, ending=True)] == [0]


def test_info_may_come_more_often_and_debug_always() -> None:
    """Ten rebalances in a minute are ten lines."""
    limit = LogLimit()
    told = [limit.admit(line("assigned", logging.INFO), 0.0) for _ in range(100)]
    assert told.count(0) == MOST_INFO
    assert [limit.admit(line("poll", logging.DEBUG), 0.0) for _ in range(100)] == [0] * 100


def test_words_that_differ_each_time_do_not_flood() -> None:
    """A logger has its limit, too, and what is kept of causes is bounded."""
    limit = LogLimit()
    words = ["".join(chr(97 + int(digit)) for digit in str(n)) for n in range(5_000)]
    told = [limit.admit(line(f"no {word}"), 0.0) for word in words]
    assert told.count(0) == MOST_OF_LOGGER
    ((_, left_out),) = limit.due(EVERY_S)
    assert left_out == len(words) - MOST_OF_LOGGER - 1
    assert len(limit._windows) <= 2 * MOST_OF_LOGGER
