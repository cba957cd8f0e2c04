"""What stands, as the brokers alone tell of it."""

from __future__ import annotations

import pytest

from streamer.core.onlooker import View, missing, standing
from streamer.core.standing import Reason

PLACE = ("in", 0)
NOW_MS = 1_000_000.0
HELD = '{"owner":"d","by":["a","b","c"],"at":4,"until":9,"most":1,"held":true}'


def reasons(view: View) -> list[Reason]:
    """Why it stands."""
    return [one.reason for one in standing(view, NOW_MS, group="g", address="k:9092")]


@pytest.mark.parametrize(
    ("view", "records", "expected"),
    [
        (View(PLACE, 0, 10, 10, 10, 10), 0, []),
        (View(PLACE, 0, 10, 10, 4, 4, first_ms=1), 6, []),
        (View(PLACE, 0, 10, 10, 9, 9), 0, []),  # a transaction marker
        (View(PLACE, 0, 10, 30, 10, 10, open_ms=999_000), 20, []),
        (View(PLACE, 0, 10, 30, 10, 10, open_ms=900_000), 20, [Reason.OPEN_TRANSACTION]),
        (View(PLACE, 0, 10, 30, 4, 4, first_ms=1, open_ms=0), 26, [Reason.OPEN_TRANSACTION]),
        (View(PLACE, 0, 10, 30, 10, 10, open_ms=None), 20, [Reason.OPEN_TRANSACTION]),
        (View(PLACE, 2, 10, 10, 40, 40), 8, [Reason.OFFSET_BEYOND_END]),
        (View(PLACE, 0, 0, 0, 40, 40), 0, [Reason.OFFSET_BEYOND_END]),
        (View(PLACE, 0, 10, 10, 4, 4, damage="BAD_MSG"), 6, [Reason.UNREADABLE]),
        (View(PLACE, 0, 10, 10, 4, 4, note=HELD, first_ms=1), 6, [Reason.HELD]),
        (View(PLACE, 0, 10, 10, 4, 4, note='{"by":["a"]}', first_ms=1), 6, []),
        (View(PLACE, 0, 10, 10, 4, 4, note="of another program", first_ms=1), 6, []),
    ],
)
def test_a_partition_is_read_from_its_offsets(view: View, records: int, expected: list[Reason]) -> None:
    """What waits, and why it is not answered."""
    assert (view.records, reasons(view)) == (records, expected)


def test_an_age_is_that_of_the_first_record_or_of_the_transaction() -> None:
    """0 where nothing waits, unknown where no timestamp says."""
    assert View(PLACE, 0, 10, 30, 4, 4, first_ms=990_000, open_ms=995_000).age_s(NOW_MS) == 10.0
    assert View(PLACE, 0, 10, 30, 10, 10, open_ms=995_000).age_s(NOW_MS) == 5.0
    assert View(PLACE, 0, 10, 10, 10, 10).age_s(NOW_MS) == 0.0
    assert View(PLACE, 0, 10, 10, 4, 4, first_ms=0).age_s(NOW_MS) is None
    assert View(PLACE, 2, 10, 10, 40, 40).age_s(NOW_MS) is None


def test_topics_are_counted_against_the_inputs() -> None:
    """A partition of an output for each of the input's; what we may not see is let pass."""
    assert not list(missing(["a"], ["out", "out.dlq"], {"a": 2, "out": 2}))
    assert not list(missing(["a"], ["out"], {"a": 2, "out": 9}))
    assert [one.partition for one in missing(["a", "b"], ["out"], {"a": 2, "b": 6, "out": 2})] == [("out", 2)]
    assert [one.partition for one in missing(["a", "b"], ["out"], {"a": 2, "b": 0, "out": 0})] == [
        ("b", -1),
        ("out", -1),
    ]
