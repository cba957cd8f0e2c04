"""The demo's planted shift: there is one, and it is noticed however the records were settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest

from streamer import demo
from streamer.core.report import Report
from streamer.demo.health import findings, quality
from streamer.demo.script import Item, script
from tests.health_kit import histogram, report

EVENTS = 3_000


def scores(items: Iterable[Item]) -> list[float]:
    """What people found of the events."""
    return [msgspec.json.decode(item.value or b"")["metadata"]["human_score"] for item in items if item.poison is None]


def settled(found: list[float], sizes: list[int], first: int = 0) -> list[Report]:
    """Reports of settles of such sizes, again and again, by a model that is right about one text in ten less."""
    reports, at, number = list[Report](), 0, 0
    while at < len(found):
        part = found[at : at + sizes[number % len(sizes)]]
        right = [(score < 0) != (place % 10 == 0) for place, score in enumerate(part, start=at)]
        labels = Counter("negative" if negative else "positive" for negative in right)
        last = first + at + len(part) - 1
        reports.append(
            report(1_000 * number, first + at, last, labels=labels, text_chars=histogram(*[79] * len(part)), repeats=0)
        )
        at, number = at + len(part), number + 1
    return reports


def test_the_last_fifth_is_another_mix_and_nothing_else_is() -> None:
    """People find three in five of the last events negative, and about a fifth of those before, evenly. All events are
    still there, and texts are repeated as often as before."""
    plan = script(EVENTS)
    assert sorted(item.value or b"" for item in plan.items if item.poison is None) == sorted(
        value for _, value in demo.events()
    )
    before, after = plan.items[: plan.shift], plan.items[plan.shift :]
    negative = [score < 0 for score in scores(before)]
    assert sum(score < 0 for score in scores(after)) == 0.6 * len(scores(after)) == 360
    parts = [sum(negative[at : at + 400]) / 400 for at in range(0, 2_400, 400)]
    assert all(0.19 < part < 0.24 for part in parts), parts
    texts = [msgspec.json.decode(item.value or b"")["text"] for item in plan.items if item.poison is None]
    repeated = [text in texts[:place] for place, text in enumerate(texts)]
    assert sum(repeated[:2_400]) / 2_400 == pytest.approx(0.1, abs=0.01)
    assert sum(repeated[2_400:]) / 600 == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("sizes", [[1], [1] * 40 + [900], [32], [150], [7, 300, 1, 1, 1]], ids=sum)
def test_the_shift_is_noticed(sizes: list[int]) -> None:
    """Of many small settles, of few large ones, and of both. The same mix again is no shift."""
    plan = script(EVENTS)
    before, after = scores(plan.items[: plan.shift]), scores(plan.items[plan.shift :])
    state, what = findings([*settled(before, sizes), *settled(after, sizes, 10_000)], {0: 10_000})
    assert state == "drift"
    assert len(what) == 1
    assert what[0].startswith("label ")
    assert what[0].endswith("600 texts")
    state, what = findings([*settled(before[600:], sizes), *settled(before[:600], sizes, 10_000)], {0: 10_000})
    assert (state, len(what)) == ("ok", 1)


def test_too_few_records_are_said_to_be_too_few() -> None:
    """A short demo notices nothing, and does not say that nothing moved."""
    plan = script(300)
    before, after = scores(plan.items[: plan.shift]), scores(plan.items[plan.shift :])
    state, what = findings([*settled(before, [8]), *settled(after, [8], 10_000)], {0: 10_000})
    assert state == "insufficient"
    assert "too few to tell, 60 of the" in what[0]
    assert findings(settled(after, [8], 10_000), {0: 10_000})[0] == "insufficient"
    assert findings([], {})[0] == "insufficient"
    mixed = settled(before + after, [300], 9_900)
    assert findings(mixed, {0: 10_000})[1] == ["too little was settled to compare it with"]


def test_labels_of_people_and_confidence_are_held_against_the_answers() -> None:
    """Three of four are right, at a confidence of 0.9."""
    told = [("positive", "positive"), ("positive", "positive"), ("negative", "negative"), ("negative", "positive")]
    held = quality((truth, {"label": label, "score": 0.9}) for truth, label in told)
    assert held.metrics()["accuracy"] == 0.75
    assert held.metrics()["f1_macro"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert held.metrics()["ece"] == pytest.approx(0.15)
