"""The checker of `streamer bench chaos` names each planted anomaly, and that one alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer.bench.chaos.checker import (
    ABORTED_READ,
    DEAD_LETTERED,
    DUPLICATE,
    KINDS,
    LOST,
    MEANINGS,
    PHANTOM,
    REORDERED,
    SILENCE_S,
    SILENT,
    UNSEEN,
    WRONG,
    Event,
    Outcome,
    Silence,
    Verdict,
    check,
)

DEADLY = 5
EVENTS = [Event(number, number % 2, number // 2, number * 10, number == DEADLY) for number in range(20)]


def outcome(number: int) -> Outcome:
    """What becomes of an event of EVENTS."""
    event = EVENTS[number]
    assert event.offset is not None
    code, answer = ("infer.worker_killed", None) if event.deadly else ("", event.answer)
    return Outcome(number, event.partition, event.offset, code, answer, event.partition, event.offset * 2)


GOOD = [outcome(number) for number in range(20)]
Read = list[Outcome]
Plant = Callable[[Read, Read], None]


def lose(during: Read, after: Read) -> None:
    """An outcome that is nowhere."""
    del during[8], after[8]


def repeat(during: Read, after: Read) -> None:
    """A second outcome, at a later offset."""
    again = GOOD[8]._replace(offset=99)
    during.append(again)
    after.append(again)


def hide(during: Read, after: Read) -> None:
    """One that the reader during the run missed."""
    del during[8]


def show_aborted(during: Read, after: Read) -> None:
    """One that the reader during the run saw at an offset where afterwards there is none; it was written again."""
    during.insert(8, GOOD[8]._replace(offset=15))


def swap(during: Read, after: Read) -> None:
    """Two outcomes of one partition the wrong way round."""
    for read in (during, after):
        read[8], read[10] = read[10], read[8]


def condemn(during: Read, after: Read) -> None:
    """A dead letter for an innocent record, in its place among them."""
    for read in (during, after):
        read[8] = read[8]._replace(code="infer.worker_killed", answer=None)


def confuse(during: Read, after: Read) -> None:
    """Another record's answer."""
    for read in (during, after):
        read[8] = read[8]._replace(answer=7)


def spare(during: Read, after: Read) -> None:
    """A result for the record that kills workers."""
    for read in (during, after):
        read[DEADLY] = read[DEADLY]._replace(code="", answer=50)


def invent(during: Read, after: Read) -> None:
    """An outcome of an event that nobody wrote."""
    for read in (during, after):
        read.append(Outcome(77, 0, 50, "", 1, 0, 98))


def misplace(during: Read, after: Read) -> None:
    """An outcome on another partition than its record's."""
    for read in (during, after):
        read[8] = read[8]._replace(partition=1)


@pytest.mark.parametrize(
    ("plant", "kind", "number"),
    [
        (lose, LOST, 8),
        (repeat, DUPLICATE, 8),
        (hide, UNSEEN, 8),
        (show_aborted, ABORTED_READ, 8),
        (swap, REORDERED, 8),
        (condemn, DEAD_LETTERED, 8),
        (confuse, WRONG, 8),
        (spare, WRONG, DEADLY),
        (invent, PHANTOM, 77),
        (misplace, PHANTOM, 8),
    ],
)
def test_a_planted_anomaly_is_named(plant: Plant, kind: str, number: int) -> None:
    """What was planted is found under its name, with its event, and under no other name."""
    during, after = list(GOOD), list(GOOD)
    plant(during, after)
    verdict = check(EVENTS, during, after)
    assert found(verdict) == {kind: [number]}
    assert verdict.anomalous


def test_what_is_right_is_no_anomaly() -> None:
    """Partitions may come in any order among one another, dead letters among results, and the deadly one is dead."""
    mixed = sorted(GOOD, key=lambda each: (each.source_partition, each.code == "", each.source_offset))
    verdict = check(EVENTS, GOOD, mixed)
    assert not verdict.anomalous
    assert (verdict.events, verdict.outcomes, verdict.unknown) == (20, 20, 0)


def test_unknown_ends_of_writing_are_kept_apart() -> None:
    """An event without acknowledgement may have an outcome or none; two of them are still a duplicate."""
    events = [
        event._replace(offset=None, acknowledged=False) if event.number in (8, 9, 10) else event for event in EVENTS
    ]
    outcomes = [each for each in GOOD if each.number != 8]
    verdict = check(events, outcomes, outcomes)
    assert not verdict.anomalous
    assert (verdict.unknown, verdict.unknown_with_outcome) == (3, 2)
    repeated = [*outcomes, GOOD[9]._replace(offset=99)]
    assert found(check(events, repeated, repeated)) == {DUPLICATE: [9]}


def test_an_acknowledgement_without_offset_counts() -> None:
    """Such an event may lie anywhere in its partition, and is lost when it has no outcome."""
    events = [event._replace(offset=None) if event.number == 8 else event for event in EVENTS]
    assert not check(events, GOOD, GOOD).anomalous
    outcomes = [each for each in GOOD if each.number != 8]
    assert found(check(events, outcomes, outcomes)) == {LOST: [8]}


def test_what_retention_deleted_is_not_lost() -> None:
    """Records below the deleted offset of their partition are unseen by retention; those from it on are lost."""
    outcomes = [each for each in GOOD if each.number not in (8, 10)]
    verdict = check(EVENTS, outcomes, outcomes, {0: 5})
    assert verdict.unseen_by_retention == 1
    assert found(verdict) == {LOST: [10]}


def test_every_kind_has_a_meaning() -> None:
    """The table explains each name."""
    assert set(MEANINGS) == set(KINDS)


def found(verdict: Verdict) -> dict[str, list[int]]:
    """The anomalies that there are."""
    return {kind: numbers for kind, numbers in verdict.anomalies.items() if numbers}


def silent(*, well: bool, events: list[Event] = EVENTS, deleted: dict[int, int] | None = None) -> set[int]:
    """Events 8 and 9 wait for a minute and a bit, and are asked for every two seconds; all others have outcomes."""
    silence = Silence()
    outcomes = [each for each in GOOD if each.number not in (8, 9)]
    for second in range(0, int(SILENCE_S) + 4, 2):
        silence.look(events, outcomes, deleted or {}, 100.0 + second, well=well)
    return silence.found


@pytest.mark.case(96)
def test_events_that_wait_while_all_is_said_to_be_well_are_found() -> None:
    """And are an anomaly of their own."""
    assert silent(well=True) == {8, 9}
    assert found(check(EVENTS, GOOD, GOOD, silent=silent(well=True))) == {SILENT: [8, 9]}


def test_events_that_wait_under_protest_are_no_anomaly() -> None:
    """Somebody is not well or does not answer; the event is not known to be there, or retention deleted it."""
    assert not silent(well=False)
    unknown = [each._replace(acknowledged=False) if each.number == 8 else each for each in EVENTS]
    assert silent(well=True, events=unknown) == {9}
    assert silent(well=True, deleted={0: 5}) == {9}


def test_a_protest_counts_for_a_minute() -> None:
    silence = Silence()
    for second in range(0, 300, 2):
        silence.look(EVENTS, [], {}, float(second), well=second % 50 != 0)
    assert not silence.found
