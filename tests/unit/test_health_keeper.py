"""What the health app remembers: any record in any order, snapshots, and what is to be said."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.health.keeper import GRACE_MS, Keeper, Taken
from streamer.core.health.words import SnapshotWord, WindowKey, decode, encode
from streamer.core.report import Event
from tests.integration.health_reports import MINUTE_MS, report

REPORTS = [report("mood", 10 * index, 10, MINUTE_MS + 7_000 * index, dead=index % 2) for index in range(12)]
RECORDS = [msgspec.json.encode(each) for each in REPORTS]
DEEP = b'{"why": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def taken(keeper: Keeper, offsets: list[int]) -> Keeper:
    """Take these records, by their offset."""
    for offset in offsets:
        keeper.take(0, offset, RECORDS[offset])
    return keeper


@given(st.lists(st.integers(0, 11), max_size=30), st.integers(0, 30))
def test_a_kill_changes_nothing(offsets: list[int], killed_after: int) -> None:
    """What a snapshot knew and what is read again make the same windows, and all that changed is said."""
    through = taken(Keeper("reports"), offsets)
    before = taken(Keeper("reports"), offsets[:killed_after])
    word = decode(encode(before.snapshot(0)))
    assert isinstance(word, SnapshotWord)
    after = Keeper("reports")
    assert after.restore(word)
    taken(after, offsets)
    assert after.fold.windows("mood", MINUTE_MS) == through.fold.windows("mood", MINUTE_MS)
    assert after.newest_ms == through.newest_ms
    assert after.upto(0) == through.upto(0)
    assert after.due(10**12) == through.due(10**12)


def test_what_a_record_was() -> None:
    keeper = Keeper("reports")
    event = report("mood", 0, 1, 0)
    event.event = Event("started")
    values = [RECORDS[0], RECORDS[0], msgspec.json.encode(event), b"\xff", b"{}", DEEP, None]
    assert [keeper.take(0, offset, value) for offset, value in enumerate(values)] == [
        Taken.NEW,
        Taken.REPEATED,
        Taken.EVENT,
        *[Taken.UNREADABLE] * 4,
    ]
    assert keeper.upto(0) == len(values)
    assert keeper.pipelines == ["mood"]


def test_a_window_is_said_when_it_has_ended_and_again_when_it_changes() -> None:
    keeper = taken(Keeper("reports"), [0])
    minute = WindowKey("mood", "abc123", MINUTE_MS, MINUTE_MS)
    assert keeper.due(minute.end_ms + GRACE_MS - 1) == []
    assert keeper.due(minute.end_ms + GRACE_MS) == [minute]
    assert keeper.due(minute.end_ms + GRACE_MS) == []
    taken(keeper, [1])
    assert keeper.due(minute.end_ms + GRACE_MS) == [minute]
    keeper.say_again([minute])
    (word,) = keeper.words(keeper.due(minute.end_ms + GRACE_MS))
    assert word.key == f"mood/window/abc123/{MINUTE_MS}/{MINUTE_MS}"
    assert word.window.results == 19


def test_what_is_no_word_of_ours() -> None:
    for value in (None, b"\xff", b"{}", DEEP):
        assert decode(value) is None


def test_a_snapshot_that_cannot_be_read_is_none() -> None:
    keeper = Keeper("reports")
    word = taken(Keeper("reports"), [0]).snapshot(0)
    word.fold = b"nonsense"
    assert not keeper.restore(word)
    assert keeper.upto(0) is None
