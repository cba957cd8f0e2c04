"""What changed, as reports tell."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.core.changes import Changes, Kind
from streamer.core.report import Event, Model, Report
from streamer.ops.changes import changes_of, records_back
from tests.unit.test_tally import report

SINCE_MS = 1_000


def said(
    time_ms: int, revision: str = "r1", *, first: int | None = None, last: int = 0, pipeline: str = "p", **fields: Any
) -> Report:
    ranges = [] if first is None else [("in", 0, first, last)]
    known = {"pipeline": pipeline, "time_ms": time_ms, "model": Model("m", revision), **fields}
    return msgspec.structs.replace(report(ranges=ranges), **known)


def told(*reports: Report) -> list[str]:
    changes = Changes(SINCE_MS)
    for each in reports:
        changes.add(each)
    return [f"{change.kind}: {change}" for change in changes.found]


def test_nothing_changed() -> None:
    """The first words on a pipeline are no change, and neither is what was before the time."""
    assert told(said(2_000), said(3_000)) == []
    assert told(said(1, "r0"), said(2, "r1"), said(2_000, "r1")) == []


def test_a_model_is_replaced_member_by_member() -> None:
    """One change, told when the first member has it; those that still have the old one tell of none. What was before
    the time is known by the reports of then."""
    replaced = [said(1, member="a"), said(2, member="b"), said(2_000, "r2", member="a")]
    replaced += [said(2_001, member="b"), said(2_002, "r2", member="a"), said(2_003, "r2", member="b")]
    assert told(*replaced) == ["model: model: m@r1 → m@r2"]
    assert told(*replaced, said(2_004, "r1", member="a"))[1:] == ["model: model: m@r2 → m@r1"]


def test_old_reports_do_not_say_who_wrote_them() -> None:
    """A pipeline that is updated to a version that does has not changed by that alone."""
    assert told(said(1), said(2_000, member="a", streamer="2", config="c1")) == []


def test_settings_that_differ_are_named() -> None:
    """By the digest, and by the fields that the members' starts tell of."""
    first = said(1, member="a", config="c1", event=Event("started", {"workers": "1", "task": '"t"'}))
    after = Event("started", {"workers": "2", "task": '"t"', "slot": '"x"'})
    gone = said(2, member="a", event=Event("ended"))
    found = told(first, gone, said(2_000, member="a", config="c2", event=after))
    assert found == [
        'configuration: configuration: c1 → c2 (slot default → "x", workers 1 → 2)',
        "member: member a: started with m@r1",
    ]
    settled = said(1_999, member="a", config="c2", first=0)
    assert told(first, gone, settled, said(2_000, member="a", config="c2", event=after)) == found
    assert told(first, said(2_000, member="a", config="c2")) == ["configuration: configuration: c1 → c2"]
    assert told(said(1, streamer="1"), said(2_000, streamer="2")) == ["version: version: streamer 1 → streamer 2"]


def test_members_come_and_go() -> None:
    """In order, by a halt, and without a word."""
    started = Event("started")
    assert told(
        said(1_001, member="a", event=started),
        said(1_002, member="a", event=Event("ended", {}, 0, "stopped by SIGTERM")),
        said(1_003, member="a", event=started),
        said(1_004, member="a", event=started),
        said(1_005, member="a", event=Event("ended", {}, 6, "too many failures")),
    ) == [
        "member: member a: started with m@r1",
        "member: member a: ended with exit code 0: stopped by SIGTERM",
        "member: member a: started with m@r1",
        "member: member a: ended without a word (killed?) → started with m@r1",
        "halt: member a: halted: too many failures",
    ]


def test_a_first_settle_that_is_heard_of_before_its_start_is_no_former_life() -> None:
    """Another producer writes the start, which may come later. A life before it still counts as lost."""
    settled = said(2_030, first=1, member="a")
    started = said(2_000, member="a", event=Event("started"))
    assert told(settled, started) == ["member: member a: started with m@r1"]
    killed = said(1, first=0, member="a")
    assert told(killed, settled, started) == ["member: member a: ended without a word (killed?) → started with m@r1"]


def test_a_log_that_is_read_again() -> None:
    """From an earlier offset than was reached; at least once that may be a repeat, unless it is earlier than ever."""
    ranges = [said(1, first=500, last=599), said(2_000, first=600, last=650)]
    assert told(*ranges, said(2_001, first=651, last=660)) == []
    assert told(*ranges, said(2_001, first=0, last=9)) == [
        "topic: in/0: read up to 651 → read again from 0: the topic was recreated, or the group's offset was reset"
    ]
    repeats = said(0, event=Event("started", {"guarantee": '"at_least_once"'}))
    assert told(repeats, *ranges, said(2_001, first=610, last=650)) == []
    assert len(told(repeats, *ranges, said(2_001, first=0, last=650))) == 1


def test_an_offset_that_was_set_ahead() -> None:
    """Only while there is no member can that be, so only then is it told: else a gap is aborted records, or markers, of
    which one behind each transaction is no news. What was read last is known from before the time."""
    began, ended = Event("started", {}), Event("ended")
    life = [said(1, member="a", event=began), said(2, first=0, last=9, member="a")]
    end, again = said(3, member="a", event=ended), said(2_000, member="a", event=began)
    marker, ahead = (said(2_001, first=first, last=39, member="a") for first in (11, 30))
    what = (
        "topic: in/0: read up to 10 → goes on from 30: the 20 offsets between hold no record any more, or the group's"
    )
    for without_member in ([end, again], [again]):  # the second was killed
        assert told(*life, *without_member, ahead)[1:] == [f"{what} offset was set ahead"]
        assert told(*life, *without_member, marker)[1:] == []
    usual = said(2_000, first=10, last=19, member="a")
    assert told(*life, end, again, usual, ahead)[1:] == []
    # Its first settle may be heard of before its start, which another producer writes.
    assert told(*life, end, usual, again, ahead)[1:] == []
    assert told(*life, said(2, member="b", event=began), end, again, ahead)[1:] == []


class Log:
    """A topic's offsets."""

    def partitions(self, topics: Any) -> list[tuple[str, int]]:
        return [(topic, number) for topic in topics for number in range(3)]

    def ends(self, partitions: Any) -> dict[tuple[str, int], int]:
        return dict.fromkeys(partitions, 10_000)

    def at_time(self, partitions: Any, time_ms: int) -> dict[tuple[str, int], int]:
        return {("reports", 0): 9_900, ("reports", 1): 4_000}


def test_reports_are_found_in_what_is_written() -> None:
    """Other programs' records are passed over, pipelines that nobody asks for are not told of, and as much is read as
    the time asks for, with something before it."""
    assert records_back(Log(), "reports", SINCE_MS) == 7_000
    values = [msgspec.json.encode(each) for each in (said(1), said(1, pipeline="q"), said(2_000, "r2"))]
    found = changes_of([b"no", None, *values, msgspec.json.encode(said(2_001, "r2", pipeline="q"))], SINCE_MS, ["p"])
    assert [(each.pipeline, each.kind) for each in found.changes] == [("p", Kind.MODEL)]
    assert found.reports == 1 and found.pipelines == {"p", "q"}
