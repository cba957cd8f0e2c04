"""What a machine remembers of the state topic: as true as the topic, whatever becomes of the file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamer.core.deadletters.letter import Place
from streamer.core.deadletters.state import STATE_TOPIC, Claim, State, claim_record, state_record
from streamer.ops.dlq.closed import Closed, cache_file
from streamer.ops.dlq.find import catch_up, read_closed, read_closed_from_topic
from tests.records import FakeRecord
from tests.unit.deadletters_kit import TIME_MS, FakeTarget, MemoryLog, letter, ours


class CountingLog(MemoryLog):
    """Knows the id of its state topic, and how many records of it were asked for."""

    __slots__ = ("asked", "name")

    def __init__(self, name: str = "id-1") -> None:
        super().__init__({STATE_TOPIC: []}, {STATE_TOPIC: FakeTarget()})
        self.name, self.asked = name, 0

    def identity(self, topic: str) -> str | None:
        return self.name

    def scan(self, topic, *, starts=None, ends=None):  # type: ignore[no-untyped-def]
        scan = super().scan(topic, starts=starts, ends=ends)
        self.asked += sum(record.offset() >= (starts or {}).get(0, 0) for record in self.topics[topic])
        return scan


def close(log: MemoryLog, *numbers: int, state: str = "replayed", job: str = "j") -> None:
    for number in numbers:
        said = State(state, job, "me@here", "2026-01-01T00:00:00Z", TIME_MS)  # type: ignore[arg-type]
        log.append((STATE_TOPIC, 0, *state_record(Place("in.dlq", 0, number), said), []))


def held(closed: Closed, most: int = 10) -> list[int]:
    return [number for number in range(most) if closed.holds(letter(ours(number)))]


def told(log: MemoryLog) -> list[int]:
    with read_closed(log) as closed:
        return held(closed)


def count(log: MemoryLog, job: str) -> int:
    with read_closed(log) as closed:
        return closed.count(job)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.case(89)
def test_what_was_read_is_not_read_again() -> None:
    """Only what came since; and a topic that was made anew is another one, however much it looks the same."""
    log = CountingLog()
    close(log, 1, 2)
    assert told(log) == [1, 2]
    assert log.asked == 2
    close(log, 3)
    close(log, 1, state="reopened", job="undo")
    assert told(log) == [2, 3]
    assert log.asked == 4
    assert told(log) == [2, 3]
    assert log.asked == 4
    anew = CountingLog("id-2")
    close(anew, 7, 8, 9, 9)
    assert told(anew) == [7, 8, 9]
    assert count(log, "j") == 2
    assert count(log, "undo") == 1


@pytest.mark.case(89)
@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "header", "version", "folder", "words", "pages"])
def test_a_damaged_copy_is_made_anew(damage: str) -> None:
    """It never changes what is told, and never stands in the way."""
    log = CountingLog()
    close(log, *range(3_000))
    read_closed(log).close()
    file = cache_file("id-1")
    whole = file.read_bytes()
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "garbage":
            file.write_bytes(os.urandom(20_000))
        case "half":
            file.write_bytes(whole[: len(whole) // 2])
        case "header":
            file.write_bytes(b"\0" * 100 + whole[100:])
        case "version":
            with sqlite3.connect(file) as database:
                database.execute("PRAGMA user_version = 99")
            database.close()
        case "words":
            file.write_bytes(whole.replace(b'"me@here"', b'"me@he\xffe"'))
        case "folder":
            file.unlink()
            file.mkdir()
        case _:
            file.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
    for _ in range(2):
        with read_closed(log) as closed:
            assert closed.count("j") == 3_000
            assert held(closed, 3_002)[-1] == 2_999


@pytest.mark.case(89)
def test_a_log_that_is_shorter_than_it_was_is_read_again() -> None:
    """As after a broker that lost its disk: what is not in the topic is not told."""
    log = CountingLog()
    close(log, 1, 2, 3)
    read_closed(log).close()
    del log.topics[STATE_TOPIC][1:]
    assert told(log) == [1]


def test_where_there_is_no_home_the_topic_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what writes reads it anew in any case."""
    log = CountingLog()
    close(log, 1)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert told(log) == [1]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert told(log) == [1]
    monkeypatch.undo()
    with read_closed_from_topic(log) as anew:
        assert held(anew) == [1]
        close(log, 2)
        catch_up(log, anew)
        assert held(anew) == [1, 2]


def no_home(_: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.case(89)
def test_two_at_once_tell_the_same(tmp_path: Path) -> None:
    """Threads that read while the file is made, each with its own connection, and a process that is killed over it."""
    log = CountingLog()
    close(log, *range(2_000))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(count(log, "j"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2_000] * 6
    file = cache_file("id-1")
    killed = (
        "import os, sys, pathlib; from streamer.ops.dlq.closed import Closed; c = Closed(pathlib.Path(sys.argv[1]));"
    )
    killed += "d = c.exclusively(); d.__enter__(); c.forget(); c._database.execute('PRAGMA cache_spill'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", killed, str(file)], check=False).returncode == 9
    assert count(log, "j") == 2_000


def test_claims_are_those_that_did_not_end() -> None:
    """The last word on each topic counts."""
    first, second = Claim("j", "me", "now", 1), Claim("j", "me", "now", 2, ended=True)
    with Closed() as closed:
        for topic, claim in (("a", first), ("b", first), ("b", second)):
            key, value = claim_record(topic, claim)
            closed.add([FakeRecord(value, key, topic=STATE_TOPIC)])
        assert closed.claims == {"a": first}
