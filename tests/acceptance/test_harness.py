"""The checker of the acceptance tests sees what it is there to see."""

from __future__ import annotations

import pytest

from tests.acceptance.harness import Given, Outcome, Place, check, event

GIVEN: dict[Place, Given] = {Place(0, offset): event(offset) for offset in range(4)}


def _result(offset: int, *, n: int | None = None, code: str = "", key: bytes | None = None) -> Outcome:
    record = GIVEN.get(Place(0, offset), event(offset))
    body = {} if code else {"output": {"n": offset if n is None else n}}
    return Outcome(code, Place(0, offset), key or record.key, record.value, {}, body)


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ([0, 1, 3], "lost: 1"),
        ([0, 1, 1, 2, 3], "duplicate: 1"),
        ([0, 2, 1, 3], "reordered: 1"),
        ([0, 1, 2, 3, 4], "foreign: 1"),
        ([0, 1, 2, 3], ""),
    ],
)
def test_places_and_their_order(outcomes: list[int], found: str) -> None:
    """A place that is missing, doubled, out of order or unknown is named."""
    assert str(check(GIVEN, [_result(offset) for offset in outcomes], lambda _: "")).startswith(found)
    assert bool(check(GIVEN, [_result(offset) for offset in outcomes], lambda _: "")) == bool(found)


def test_repeats_are_allowed_only_where_asked_for() -> None:
    """With repeats a second outcome is fine unless it is another one."""
    outcomes = [_result(offset) for offset in (0, 1, 0, 1, 2, 3)]
    assert not check(GIVEN, outcomes, lambda _: "", repeats=True)
    assert check(GIVEN, [*outcomes, _result(2, code="infer.nan")], lambda _: "", repeats=True)


def test_contents() -> None:
    """Another record's answer, another code, another key and a changed dead letter are wrong."""
    rest = [_result(offset) for offset in (1, 2, 3)]
    for odd in (_result(0, n=7), _result(0, code="infer.nan"), _result(0, key=b"other")):
        assert str(check(GIVEN, [odd, *rest], lambda _: "")).startswith("wrong: 1")
    changed = Outcome("infer.nan", Place(0, 0), GIVEN[Place(0, 0)].key, b"changed", {}, {})
    codes = {Place(0, 0): "infer.nan"}
    assert check(GIVEN, [changed, *rest], lambda place: codes.get(place, "")).wrong
