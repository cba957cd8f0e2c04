"""Quality from feedback: the numbers of `streamer evaluate`, whatever is said twice, over any number of restarts."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from streamer.core.health.feedback.feedback import Place, Said, place_of, read
from streamer.core.health.feedback.grades import numbers, told
from streamer.core.health.feedback.hearing import MOST_LABELS
from streamer.core.health.feedback.join import Joiner, Result, Revision, Source
from streamer.core.health.feedback.memory import assembled, packed, split, unpacked
from streamer.core.health.judges.by_task import judge_of
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import DAY_MS, HOUR_MS, Fold
from tests.health_kit import NOW_MS, report

HORIZON_S = 7 * 86_400


def one(truth: Any, draw: random.Random) -> dict[str, Any]:
    right = draw.random() < 0.8
    return {"label": truth if right else draw.choice("abc"), "score": draw.random()}


def several(truth: Any, draw: random.Random) -> dict[str, Any]:
    scores = {label: draw.random() / 2 + 0.5 * (label in truth) for label in "abc"}
    return {"label": "a", "score": 0.5, "scores": [{"label": name, "score": each} for name, each in scores.items()]}


def entities(truth: Any, draw: random.Random) -> dict[str, Any]:
    found = [{**each, "end": each["end"] + draw.choice([0, 0, 1]), "text": "secret"} for each in truth]
    return {"entities": found}


CASES: dict[str, tuple[str, str, list[Any], Any]] = {
    "one label": ("text-classification", "label", ["a", "b", "c"], one),
    "several labels": ("text-classification", "labels", [["a"], [], ["b", "c"]], several),
    "a number": (
        "text-classification",
        "score",
        [1.0, 2.5, 4.0],
        lambda truth, draw: {"label": "L", "score": truth + draw.random()},
    ),
    "entities": (
        "token-classification",
        "entities",
        [[], [{"start": 0, "end": 3, "label": "PER"}], [{"start": 4, "end": 9, "label": "LOC"}]],
        entities,
    ),
    "an answer": ("question-answering", "text", ["the tower", "Paris", ""], lambda *_: {"answer": "tower"}),
    "a text": ("summarization", "text", ["a b", "b c d", "x"], lambda *_: {"text": "a b c"}),
    "similarity": ("similarity", "score", [0.1, 0.5, 1.0], lambda truth, draw: {"score": draw.random()}),
}


def said(offset: int, time_ms: int, **fields: Any) -> Said:
    found = read(json.dumps({"ce_id": f"p/in/0/{offset}", **fields}).encode(), time_ms)
    assert isinstance(found, Said)
    return found


def tell(joiner: Joiner, said: Said, results: dict[int, Result]) -> None:
    """Feedback, joined at once."""
    place = place_of(said.feedback, {"p": ["in"]})
    assert place is not None
    if joiner.take(place, said, NOW_MS) is None:
        joiner.found(place, results[place.offset], NOW_MS)


def restarted(joiner: Joiner) -> Joiner:
    """One that goes on from what is written of this one."""
    parts, word = split("feedback", "a", NOW_MS, packed({0: 5}, joiner.joined({})))
    content = assembled(word, parts)
    assert content is not None
    memory = unpacked(content)
    assert memory is not None and memory.upto == {0: 5}
    found = Joiner(HORIZON_S)
    found.restore(memory.joined)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_evaluate(case: str) -> None:
    """In any order, with labels that are said anew, and over restarts; of each hour, and of all."""
    task, name, truths, answer = CASES[case]
    draw = random.Random(5)
    results: dict[int, Any] = {}
    last: dict[int, Any] = {}
    stream: list[Any] = []
    for offset in range(300):
        truth = draw.choice(truths)
        output = answer(truth, draw)
        event_ms = NOW_MS - draw.randrange(5) * HOUR_MS
        results[offset] = Result("p", Revision("r"), output, Source("in", 0, offset, event_ms), task)
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            time_ms = NOW_MS - draw.randrange(10**6)
            truth = draw.choice(truths)
            stream.append(said(offset, time_ms, **{name: truth}))
            if offset not in last or time_ms > last[offset][0]:
                last[offset] = time_ms, truth
    draw.shuffle(stream)
    joiner = Joiner(HORIZON_S)
    for number, each in enumerate(stream):
        tell(joiner, each, results)
        if number % 97 == 0:
            joiner = restarted(joiner)
    for length_ms in (HOUR_MS, DAY_MS):
        grades = joiner.realised.grades("p", length_ms)
        assert sum(grade.places for grade in grades) == 300
        for grade in grades:
            wanted, judge = Quality(), judge_of(task, {}, 0.5)
            assert judge is not None
            for offset, (_, truth) in last.items():
                result = results[offset]
                if grade.key.start_ms <= result.source.timestamp_ms < grade.key.end_ms:
                    evidence, _ = judge.hold(judge.read(truth, " " * 50), result.output)
                    wanted.count(evidence, f"in/0/{offset}".encode())
            assert grade.quality.answered == wanted.answered
            assert numbers(grade.quality) == pytest.approx(numbers(wanted), abs=1e-12)
    outcomes = joiner.tally("p").outcomes
    assert outcomes == {"matched": 300, "duplicate": len(stream) - 300}


def test_a_snapshot_holds_no_text() -> None:
    """Neither what people write, nor what models do."""
    joiner = Joiner(HORIZON_S)
    for task, name, truth, output in (
        ("summarization", "text", "secret", {"text": "secret words"}),
        ("question-answering", "text", "secret", {"answer": "secret words"}),
        (
            "token-classification",
            "entities",
            [],
            {"entities": [{"start": 0, "end": 6, "label": "X", "text": "secret"}]},
        ),
    ):
        result = Result("p", Revision(task), output, Source("in", 0, len(task), NOW_MS), task)
        tell(joiner, said(len(task), NOW_MS, **{name: truth}), {len(task): result})
    waiting = Place("p", "in", 0, 1)
    joiner.take(waiting, said(1, NOW_MS, text="secret"), NOW_MS)
    assert b"secret" not in packed({}, joiner.joined({}))
    joiner = restarted(joiner)
    assert sum(grade.quality.answered for grade in joiner.realised.grades("p", DAY_MS)) == 3


def test_labels_that_stand_for_many_count_as_often() -> None:
    """Of 100 results, 10 uncertain ones are all labelled, of the other 90 one in ten: weighted, the accuracy is that of
    all."""
    results, joiner = {}, Joiner(HORIZON_S)
    for offset in range(100):
        right = offset >= 10 or offset % 2 == 0
        source = Source("in", 0, offset, NOW_MS)
        results[offset] = Result("p", Revision("r"), {"label": "a" if right else "b", "score": 0.9}, source)
    for offset in (*range(10), *range(10, 100, 10)):
        chance = 1.0 if offset < 10 else 0.1
        tell(joiner, said(offset, NOW_MS, label="a", probability=chance), results)
    (grade,) = joiner.realised.grades("p", DAY_MS)
    assert grade.quality.metrics()["accuracy"] == pytest.approx(0.95)
    word = told(grade, Fold())
    assert word.accuracy_interval is None, "an interval of 19 labels, counted as 100, would promise too much"
    assert (word.labels, word.coverage) == (19, None)


def test_coverage_is_of_the_results_that_reports_tell_of() -> None:
    fold, joiner = Fold(), Joiner(HORIZON_S)
    fold.add(report(NOW_MS, 0, 39, revision="r"))
    fold.add(report(NOW_MS, 40, 79, revision="other"))
    result = Result("p", Revision("r"), {"label": "a", "score": 0.9}, Source("in", 0, 1, NOW_MS))
    tell(joiner, said(1, NOW_MS, label="a"), {1: result})
    for length_ms in (HOUR_MS, DAY_MS):
        (grade,) = joiner.realised.grades("p", length_ms)
        assert told(grade, fold).coverage == 1 / 40


def test_what_is_older_than_the_horizon_is_forgotten() -> None:
    joiner = Joiner(86_400)
    for offset, age_ms in enumerate((0, 10 * DAY_MS)):
        now_ms = NOW_MS - age_ms
        place = Place("p", "in", 0, offset)
        joiner.take(place, said(offset, now_ms, label="a"), now_ms)
        result = Result("p", Revision("r"), {"label": "a", "score": 0.9}, Source("in", 0, offset, now_ms))
        assert joiner.found(place, result, now_ms) == "matched"
    joiner.forget(NOW_MS)
    assert [grade.places for grade in joiner.realised.grades("p", DAY_MS)] == [1]
    assert joiner.realised.known(Place("p", "in", 0, 1)) is None


def test_who_takes_texts_for_labels_does_not_fill_the_memory() -> None:
    joiner = Joiner(HORIZON_S)
    source = Source("in", 0, 0, NOW_MS)
    results = {
        offset: Result("p", Revision("r"), {"label": "a", "score": 0.9}, source) for offset in range(MOST_LABELS + 50)
    }
    for offset in results:
        tell(joiner, said(offset, NOW_MS, label=f"name {offset}"), results)
    (grade,) = joiner.realised.grades("p", DAY_MS)
    assert (grade.unjudged, grade.places) == (51, MOST_LABELS + 50)
    word = told(grade, Fold())
    assert word.confusion is None
    assert not [name for name in word.metrics if "." in name]


def test_a_snapshot_that_is_not_whole_is_none() -> None:
    """A part of it is missing, or of another snapshot; or its bytes are not ours."""
    draw = random.Random(1)
    parts, word = split("feedback", "a", NOW_MS, packed({0: draw.getrandbits(40)}, Joiner(60).joined({})))
    assert assembled(word, parts) is not None
    assert assembled(word, []) is None
    older, _ = split("feedback", "b", NOW_MS, b"older")
    assert assembled(word, older) is None
    assert older[0].key != parts[0].key
    assert unpacked(b"what") is None
