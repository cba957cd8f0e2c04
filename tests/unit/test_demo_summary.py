"""The demo's checks: each can fail, and says what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streamer.config.load import Config, PipelineConfig
from streamer.demo.pace import Course
from streamer.demo.script import Item, script
from streamer.demo.summarise import summarise
from streamer.demo.summary import Summary
from streamer.demo.watch import Outcome, Place, Result, Seen

SCRIPT = script(60)
COURSE = Course(capacity_per_s=80.0, live_per_s=40, live=range(25, 50), burst=range(50, len(SCRIPT.items)))
NAMES = ("sentiment", "embedding")
OUTPUTS = {"sentiment": {"label": "positive", "score": 0.9}, "embedding": {"vector": [0.6, 0.8], "dimensions": 2}}


def result(name: str, place: Place, item: Item) -> Result:
    event = msgspec.json.decode(item.value or b"")
    return msgspec.convert(
        {
            "id": event["id"],
            "model": {"name": "m", "revision": "0" * 64},
            "output": msgspec.Raw(msgspec.json.encode(OUTPUTS[name])),
            "cached": False,
            "source": {"partition": place.partition, "offset": place.offset, "timestamp_ms": 1_000},
            "metadata": event["metadata"],
        },
        Result,
    )


@pytest.fixture
def watch() -> Any:
    """What is seen of a demo in which all goes well."""
    inputs = {Place(0, offset): item for offset, item in enumerate(SCRIPT.items)}
    seen = {}
    for name in NAMES:
        one = seen[name] = Seen(skipped=Counter({"tombstone": 1}), settles=[len(inputs)])
        for place, item in inputs.items():
            if item.poison is None:
                one.outcomes[place] = [Outcome(1_010.0, result(name, place, item))]
                one.results += 1
            elif item.poison.expect != "skipped":
                one.outcomes[place] = [Outcome(1_010.0, code=item.poison.expect)]
    tasks = {"sentiment": "text-classification", "embedding": "embedding"}
    pipelines = {name: PipelineConfig(task=tasks[name], model="m", input=["i"], output="o") for name in NAMES}
    return SimpleNamespace(
        config=Config(pipelines=pipelines), script=SCRIPT, course=COURSE, inputs=inputs, seen=seen, burst_at_ms=1_000.0
    )


def summary(watch: Any, exit_code: int = 0) -> Summary:
    return summarise(watch, [], exit_code, {})


def place_of(watch: Any, poison: str | None) -> Place:
    """The place of a poison record, or of the first event."""
    wanted: Iterator[Place] = (
        place for place, item in watch.inputs.items() if (item.poison and item.poison.name) == poison
    )
    return next(wanted)


def test_a_demo_that_went_well_has_no_problems(watch: Any) -> None:
    """All events answered and all poison records judged: nothing to complain of."""
    found = summary(watch)
    assert found.ok
    assert found.problems == []
    assert found.pipelines["sentiment"].latency.p50_ms == 10
    assert all(one.as_expected for one in found.poison)
    health = found.pipelines["sentiment"].health
    assert health is not None
    assert (health.shift.texts, health.shift.state) == (12, "insufficient")
    assert health.shift.negative_after > health.shift.negative_before
    assert found.pipelines["embedding"].health is None


def test_a_lost_event_is_a_problem(watch: Any) -> None:
    """An event without outcome is counted as lost, in its pipeline alone."""
    del watch.seen["embedding"].outcomes[place_of(watch, None)]
    watch.seen["embedding"].results -= 1
    found = summary(watch)
    assert found.problems == ["embedding: 1 inputs without an outcome", "embedding: 1 events without a result"]
    assert (found.pipelines["sentiment"].lost, found.pipelines["embedding"].lost) == (0, 1)


def test_a_doubled_result_is_a_problem(watch: Any) -> None:
    """A second outcome of the same input is counted."""
    place = place_of(watch, None)
    watch.seen["sentiment"].outcomes[place] *= 2
    assert summary(watch).problems == ["sentiment: 1 inputs with more than one outcome"]


def test_an_outcome_of_no_input_is_a_problem(watch: Any) -> None:
    """An outcome whose input does not exist is counted."""
    watch.seen["sentiment"].outcomes[Place(3, 77)] = [Outcome(1_010.0, code="decode.json")]
    assert summary(watch).problems == ["sentiment: 1 outcomes of no input"]


@pytest.mark.parametrize("code", ["validate.type", ""])
def test_a_poison_record_judged_otherwise_is_a_problem(watch: Any, code: str) -> None:
    """Another code, or no outcome at all, is told by the poison record's name."""
    place = place_of(watch, "not-json")
    outcomes = watch.seen["sentiment"].outcomes
    del outcomes[place]
    if code:
        outcomes[place] = [Outcome(1_010.0, code=code)]
    expected = f"not-json got {code or 'nothing'}, decode.json instead of decode.json"
    assert expected in summary(watch).problems


def test_a_tombstone_that_was_not_counted_is_a_problem(watch: Any) -> None:
    """Without a report that counts it as skipped, the tombstone is lost."""
    watch.seen["embedding"].skipped.clear()
    problems = summary(watch).problems
    assert "embedding: 1 inputs without an outcome" in problems
    assert "tombstone got skipped, nothing instead of skipped" in problems


def test_a_failed_run_is_a_problem(watch: Any) -> None:
    """An exit code other than 0 of `streamer run` fails the demo, whatever came out."""
    assert summary(watch, exit_code=8).problems == ["`streamer run` ended with exit code 8"]


def test_a_repeat_with_another_answer_is_counted(watch: Any) -> None:
    """Repeats whose answer is not the first's byte for byte were computed again."""
    first, second = [place for place, item in watch.inputs.items() if item.poison is None][:2]
    watch.inputs[second] = Item(b"k", b" " + (watch.inputs[first].value or b""), [])
    watch.script = SimpleNamespace(items=list(watch.inputs.values()), events=SCRIPT.events, shift=SCRIPT.shift)
    assert summary(watch).pipelines["sentiment"].repeats.different == 0
    (outcome,) = watch.seen["sentiment"].outcomes[second]
    other = msgspec.structs.replace(outcome.result, output=msgspec.Raw(b'{"label": "negative"}'))
    watch.seen["sentiment"].outcomes[second] = [Outcome(1_010.0, other)]
    repeats = summary(watch).pipelines["sentiment"].repeats
    assert (repeats.events, repeats.different) == (1, 1)
