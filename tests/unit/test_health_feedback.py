"""Feedback: what is read, which event it is about, and what becomes of it."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from streamer.core.health.feedback.feedback import Place, Refused, Said, place_of, read
from streamer.core.health.feedback.join import Absent, Joiner, Result, Revision, Source
from streamer.core.health.feedback.realised import Grade
from streamer.core.health.windows.fold import DAY_MS

INPUTS = {"mood": ["events", "a/b"], "topic": ["events"]}
PLACE = Place("mood", "events", 0, 7)
HOUR_MS = 3_600_000


def said(time_ms: int = 1_000, **fields: Any) -> Said:
    """Feedback as it is read."""
    found = read(json.dumps({"ce_id": "mood/events/0/7", "label": "joy", **fields}).encode(), time_ms)
    assert isinstance(found, Said)
    return found


def result(label: str = "joy", timestamp_ms: int = 0) -> Result:
    """A result of the event at PLACE."""
    return Result("mood", Revision("abc123"), {"label": label, "score": 0.9}, Source("events", 0, 7, timestamp_ms))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"joy", "feedback.json"),
        (None, "feedback.json"),
        (b"[]", "feedback.type"),
        (b"\xff", "feedback.json"),
        (
            b'{"ce_id": "mood/events/0/7", "label": "joy", "why": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "feedback.json",
        ),
        (b'{"ce_id": 7, "label": "joy"}', "feedback.type"),
        (b'{"origin": ["events", 0, -1], "label": "joy"}', "feedback.type"),
        (b'{"label": "joy"}', "feedback.place"),
        (b'{"id": "a", "ce_id": "b", "label": "joy"}', "feedback.place"),
        (b'{"id": "a"}', "feedback.verdict"),
        (b'{"id": "a", "label": "joy", "score": 1}', "feedback.verdict"),
        (b'{"id": "a", "label": "%s"}' % (b"joy" * 100), "feedback.type"),
        (b'{"id": "a", "label": "joy", "probability": 0}', "feedback.type"),
        (b'{"id": "a", "entities": [{"start": 0, "label": "PER"}]}', "feedback.type"),
        (b'{"id": "a", "label": "joy", "time": "today"}', "feedback.time"),
        (b'{"id": "a", "label": "joy", "time": "2026-11-24T08:00:00"}', "feedback.time"),
    ],
)
def test_what_is_refused(value: bytes | None, code: str) -> None:
    found = read(value, 0)
    assert isinstance(found, Refused)
    assert found.code == code


def test_which_field_is_refused() -> None:
    """By its name in the schema, and without its value."""
    for value, field in (
        (b'{"id": "a", "label": "joy", "probability": 7}', "probability"),
        (b'{"origin": ["events", 0, -1], "label": "joy"}', "origin[2]"),
        (b'{"id": "a", "labels": ["joy", ""]}', "labels[1]"),
        (b'{"id": "a", "entities": [{"start": "secret"}]}', "entities[0].start"),
    ):
        found = read(value, 0)
        assert isinstance(found, Refused)
        assert found.message.startswith(f"{field} is of the wrong type"), found.message
    found = read(b"[]", 0)
    assert isinstance(found, Refused)
    assert "no object" in found.message


def test_when_it_was_said() -> None:
    assert said(5).time_ms == 5
    assert said(5, time="1970-01-01T01:00:01+01:00").time_ms == 1_000


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"ce_id": "mood/events/0/7"}, PLACE),
        ({"ce_id": "mood/a/b/3/8"}, Place("mood", "a/b", 3, 8)),
        ({"ce_id": "other/events/0/7"}, None),
        ({"ce_id": "mood/others/0/7"}, None),
        ({"ce_id": "mood/events/0/-7"}, None),
        ({"ce_id": "events"}, None),
        ({"origin": ["events", 0, 7], "pipeline": "mood"}, PLACE),
        ({"origin": ["events", 0, 7]}, None),  # of two pipelines
        ({"origin": ["a/b", 0, 7]}, Place("mood", "a/b", 0, 7)),
        ({"id": "a/b/0/7"}, Place("mood", "a/b", 0, 7)),
        ({"id": "order-17"}, None),
        ({"ce_id": f"mood/events/{2**31 - 1}/{2**63 - 1}"}, Place("mood", "events", 2**31 - 1, 2**63 - 1)),
        ({"ce_id": f"mood/events/{2**31}/7"}, None),
        ({"ce_id": "mood/events/0/" + "9" * 5_000}, None),
        ({"id": f"a/b/0/{2**63}"}, None),
        ({"origin": ["a/b", 2**31, 8]}, None),
        ({"origin": ["a/b", 0, 2**63]}, None),
    ],
)
def test_which_event_it_is_about(fields: dict[str, Any], place: Place | None) -> None:
    found = read(json.dumps({"label": "joy", **fields}).encode(), 0)
    assert isinstance(found, Said)
    assert place_of(found.feedback, INPUTS) == place


def day(joiner: Joiner) -> Grade:
    """What came of the feedback on a day's results."""
    (found,) = joiner.realised.grades("mood", DAY_MS)
    return found


def test_matched() -> None:
    joiner = Joiner(60)
    assert joiner.take(PLACE, said(5_000), 5_000) is None
    assert joiner.wanted(5_000, 10) == [PLACE]
    assert joiner.found(PLACE, result(), 5_000) == "matched"
    found = day(joiner)
    assert (found.places, found.unjudged, found.quality.metrics()["accuracy"], found.lags.keeps(0.5)) == (1, 0, 1.0, 5)
    assert joiner.fresh == 0


@pytest.mark.parametrize("order", [*permutations([(1_000, "joy"), (2_000, "anger"), (3_000, "fear")])])
def test_the_last_by_time_wins(order: tuple[tuple[int, str], ...]) -> None:
    """In whatever order they come, and whether each is joined before the next comes or not."""
    for at_once in (False, True):
        joiner = Joiner(60)
        outcomes = []
        for time_ms, label in order:
            outcomes.append(joiner.take(PLACE, said(time_ms, label=label), 0))
            if not at_once and outcomes[-1] is None:
                outcomes[-1] = joiner.found(PLACE, result("fear"), 0)
        if at_once:
            outcomes[0] = joiner.found(PLACE, result("fear"), 0)
        assert sorted(map(str, outcomes)) == ["duplicate", "duplicate", "matched"]
        found = day(joiner)
        assert (found.places, found.quality.answered, found.quality.metrics()["accuracy"]) == (1, 1, 1.0)


def test_early_feedback_waits_for_its_result() -> None:
    joiner = Joiner(60)
    joiner.take(PLACE, said(0), 0)
    assert joiner.found(PLACE, Absent(yet=True), 0) == "early"
    assert joiner.wanted(999, 10) == []
    assert joiner.wanted(1_000, 10) == [PLACE]
    assert joiner.found(PLACE, Absent(yet=True), 1_000) is None
    joiner.count_waiting()
    assert joiner.tally("mood").waiting == 1
    assert joiner.found(PLACE, result(), 15_000) == "matched"


def test_feedback_whose_result_never_comes() -> None:
    joiner = Joiner(60)
    joiner.take(PLACE, said(0), 0)
    assert joiner.found(PLACE, Absent(yet=True), 60_001) == "unknown"
    joiner.take(PLACE, said(0), 0)
    assert joiner.found(PLACE, Absent(yet=False), 0) == "no_result"
    assert joiner.wanted(10**9, 10) == []


def test_what_can_not_be_looked_up_makes_way_for_others() -> None:
    """However much of it there is: else a topic that can't be read would stop the feedback on all pipelines."""
    joiner = Joiner(60)
    unreadable = [PLACE._replace(pipeline="topic", offset=offset) for offset in range(3)]
    for place in (*unreadable, PLACE):
        joiner.take(place, said(0), 0)
    assert joiner.wanted(0, 3) == unreadable
    joiner.found(unreadable[0], result(), 0)  # of those looked up together one was found
    assert joiner.put_off(unreadable, 0) == []
    assert joiner.wanted(5_000, 3) == [PLACE]
    assert joiner.wanted(30_000, 3) == [PLACE, *unreadable[1:]]
    assert joiner.fresh == 1, "those that are put off do not hold up new feedback"
    assert joiner.put_off(unreadable, 60_001) == [(place, "unknown") for place in unreadable[1:]]
    joiner.found(PLACE, result(), 60_001)
    assert joiner.fresh == 0 and joiner.wanted(10**9, 10) == []


def test_late_feedback() -> None:
    joiner = Joiner(60)
    joiner.take(PLACE, said(60_001), 60_001)
    assert joiner.found(PLACE, result(timestamp_ms=0), 60_001) == "late"
    assert not joiner.realised.pipelines()


def test_what_can_not_be_compared_is_no_label() -> None:
    """It is found, and counts in no number."""
    joiner = Joiner(60)
    found = read(b'{"ce_id": "mood/events/0/7", "text": "joy"}', 0)
    assert isinstance(found, Said)
    joiner.take(PLACE, found, 0)
    assert joiner.found(PLACE, result(), 0) == "matched"
    grade = day(joiner)
    assert (grade.places, grade.unjudged, grade.quality.answered) == (1, 1, 0)


def test_what_is_remembered_is_bounded() -> None:
    joiner = Joiner(60, most=2)
    for offset in (1, 2, 3, 1):
        place = PLACE._replace(offset=offset)
        assert joiner.take(place, said(), 0) is None
        joiner.found(place, result(), 0)
    assert joiner.tally("mood").outcomes == {"matched": 4}
    assert day(joiner).quality.answered == 4, "the sums of all that was forgotten are kept"
