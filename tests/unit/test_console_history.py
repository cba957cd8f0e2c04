"""The jobs as the audit and the state topic tell of them, and orders as the page gives them."""

from __future__ import annotations

import threading

import pytest

from streamer.config.fields import KafkaConfig
from streamer.console import history
from streamer.console.asked import Wanted, place_of
from streamer.console.history import PACE_S, History, Life, Pace, Start, starts
from streamer.core.deadletters.audit import Audit
from streamer.core.deadletters.letter import Place
from streamer.core.deadletters.state import Claim
from streamer.errors import DependencyError, UsageError
from streamer.ops.dlq.audits import Audits
from streamer.ops.dlq.claims import LAPSE_S
from streamer.ops.dlq.closed import Closed


def audit(event: str, job: str = "j", count: int = 0, total: int = 100, outcome: str = "") -> Audit:
    return Audit(event, "replay", job, "ada@host", "12:05", {}, count, 0, None, "d", outcome, total)  # type: ignore[arg-type]


def test_each_start_of_a_job_has_a_state() -> None:
    """The newest first. One that did not end runs while its claim lives, else it shows no sign of life; an earlier
    start of the same job does not run."""
    audits = [
        ("12:00", audit("ended", "a", 100, outcome="done")),
        ("12:01", audit("began", "b")),
        ("12:02", audit("stopped", "c", 7, outcome="cancelled by ada")),
        ("12:03", audit("began", "d")),
        ("12:04", audit("began", "b")),
    ]
    pace = Pace()
    starts(audits, {"b": 10, "d": 3}, {"b"}, pace, 100.0)
    found = [each.document() for each in starts(audits, {"b": 30, "d": 3}, {"b"}, pace, 110.0)]
    assert [(each["job"], each["state"], each["moved"]) for each in found] == [
        ("b", "running", 30),
        ("d", "silent", 3),
        ("c", "stopped", 7),
        ("b", "silent", 0),
        ("a", "done", 100),
    ]
    assert (found[0]["per_s"], found[0]["eta_s"], found[0]["total"]) == (2.0, 35.0, 100)
    assert (found[2]["ended"], found[2]["outcome"]) == ("12:05", "cancelled by ada")


def test_where_the_total_is_not_known_no_end_is_foretold() -> None:
    """Jobs of older versions did not say it."""
    pace = Pace()
    audits = [("12:00", audit("began", total=0))]
    starts(audits, {"j": 1}, {"j"}, pace, 0.0)
    (found,) = starts(audits, {"j": 11}, {"j"}, pace, 10.0)
    assert (found.document()["total"], found.document()["eta_s"], found.per_s) == (None, None, 1.0)


def test_a_pace_is_of_the_last_looks() -> None:
    """What was long ago does not count."""
    pace = Pace()
    assert pace.look("j", 0, 0.0) is None
    assert pace.look("j", 1_000, 10.0) == 100
    assert pace.look("j", 1_000, 10.0 + PACE_S) == 0


def test_a_claim_lives_while_its_beat_grows() -> None:
    """One is given some time to show it, from when it was seen first."""
    life = Life()
    beats = {"t": Claim("j", "ada", "12:00", 1), "u": Claim("k", "bob", "12:00", 5)}
    assert life.look(beats, 0.0) == {"j", "k"}
    grown = beats | {"t": Claim("j", "ada", "12:00", 2)}
    assert life.look(grown, LAPSE_S) == {"j"}
    assert life.look({}, LAPSE_S + 1) == set()


def test_who_asks_is_answered_while_the_topics_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reading may take minutes: who asks meanwhile does not hang, nor does who begins a job."""
    monkeypatch.setattr(history, "WAIT_S", 0.01)
    read, reads = threading.Event(), iter(range(9))

    def slowly(_: History) -> list[Start]:
        assert read.wait(60)
        return [Start(audit("ended", f"j{next(reads)}"), "12:00", "done", 1)]

    monkeypatch.setattr(History, "_read", slowly)
    asked = History(KafkaConfig())
    try:
        for _ in range(2):
            with pytest.raises(DependencyError, match=r"streamer\.audit and streamer\.dlq\.state are still being read"):
                asked.starts()
        read.set()
        monkeypatch.setattr(history, "WAIT_S", 60)
        assert [each.audit.job for each in asked.starts()] == ["j0"]
        read.clear()
        asked.forget()
        monkeypatch.setattr(history, "WAIT_S", 0.01)
        assert [each.audit.job for each in asked.starts()] == ["j0"]
        read.set()
        monkeypatch.setattr(history, "WAIT_S", 60)
        assert [each.audit.job for each in asked.starts()] == ["j1"]
    finally:
        read.set()
        asked.close()


def test_the_thread_that_opened_the_database_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite lets no other thread do so."""
    closed_by: list[str] = []

    class Recording(Closed):
        def close(self) -> None:
            super().close()
            closed_by.append(threading.current_thread().name)

    monkeypatch.setattr(history, "TopicLog", lambda _: None)
    monkeypatch.setattr(history, "read_closed_from_topic", lambda _: Recording())
    monkeypatch.setattr(Audits, "read", lambda *_: [])
    monkeypatch.setattr(history, "WAIT_S", 60)
    asked = History(KafkaConfig())
    assert asked.starts() == []
    asked.close()
    asked._pool.shutdown()
    assert closed_by == ["console-history_0"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Wanted(action="edit", value="x"), "an edit changes one dead letter"),
        (Wanted(action="edit", places=["t/0/1", "t/0/2"], value="x"), "an edit changes one dead letter"),
        (Wanted(action="edit", places=["t/0/1"]), "an edit changes one dead letter"),
        (Wanted(value="x"), "only an edit has a value"),
        (Wanted(action="discard", reason="  "), "say why"),
    ],
)
def test_what_does_not_go_together_is_refused(wanted: Wanted, why: str) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=why):
        wanted.check()


def test_a_place_is_read_from_its_end() -> None:
    """A topic has no slash; what is no place is none."""
    assert place_of("t.dlq/0/17") == Place("t.dlq", 0, 17)
    assert [place_of(text) for text in ("t.dlq", "t/0", "t/x/1", "/0/1", "t/0/99999999999999999999", "")] == [None] * 6
