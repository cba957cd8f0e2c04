"""Replays from the console on a real cluster: what was shown is what moves, beside other consoles and the command
line."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.cli import main
from streamer.config.load import load
from streamer.console.asked import Filter, Wanted
from streamer.console.desk import Desk
from streamer.console.history import History
from streamer.console.looks import Looks
from streamer.errors import ExitCode, UsageError
from streamer.ops.dlq.claims import RunningError
from tests.integration.test_dlq import cluster, folders_of_its_own, json_lines, make, name, put, read, settings
from tests.unit.deadletters_kit import ours
from tests.waiting import wait_for

__all__ = ["cluster", "folders_of_its_own", "name"]


def ended(desk: Desk) -> dict[str, Any]:
    """The newest job, once it has ended."""
    wait_for(lambda: desk.jobs()[0]["state"] != "running")
    return desk.jobs()[0]


@pytest.fixture
def desk(cluster: Any, name: str) -> Desk:
    """A console's desk over eight dead letters."""
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in") for n in range(8)))
    return opened(cluster, name)


def opened(cluster: Any, name: str) -> Desk:
    """The desk of another console."""
    config = load(settings(cluster, name)[1])
    return Desk(config, Looks(config, show_text=False), History(config.kafka))


def jobs(desk: Desk, name: str) -> list[dict[str, Any]]:
    """The history, of this test's topic."""
    return [job for job in desk.history() if f"{name}.dlq" in job["wanted"].get("topics", [])]


def until_moved(desk: Desk) -> None:
    """Wait until the newest job moves."""
    wait_for(lambda: desk.jobs()[0]["moved"])


@pytest.mark.case(84)
def test_the_order_that_was_shown_is_executed(
    cluster: Any, name: str, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not another one under the same job's name, and none at all once it would move something else; who did it is on
    the audit."""
    make(cluster, f"{name}.else", 1)
    mine = desk.prepare(Wanted(most=3, job=f"fix-{name}"))
    other = desk.prepare(Wanted(to=f"{name}.else", job=f"fix-{name}"))
    late = desk.prepare(Wanted())
    assert (mine["total"], other["total"], late["total"]) == (3, 8, 8)
    put(cluster, f"{name}.dlq", ours(8, origin=f"{name}.in"))
    desk.execute(mine["digest"], "ada")
    assert (ended(desk)["state"], ended(desk)["by"]) == ("done", "ada")
    assert (len(read(cluster, f"{name}.in")), len(read(cluster, f"{name}.else"))) == (3, 0)
    with pytest.raises(UsageError, match="make one first"):
        desk.execute(mine["digest"], "bob")
    desk.execute(late["digest"], "bob")
    job = ended(desk)
    assert (job["state"], job["moved"]) == ("failed", 0)
    assert "what would move has changed since the dry run (5 instead of 8)" in job["outcome"]
    assert len(read(cluster, f"{name}.in")) == 3
    assert main(["audit", f"fix-{name}", "--json", *settings(cluster, name)]) == ExitCode.DONE
    (said,) = json_lines(capsys)
    assert said["by"].startswith("ada (console of ")
    assert (said["digest"], said["count"]) == (mine["digest"], 3)


@pytest.mark.case(85)
def test_a_console_and_the_command_line_take_turns(
    cluster: Any, name: str, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a console replays, neither another console nor the command line may, and they are told by whom."""
    slow = desk.prepare(Wanted(rate=1.0))
    other = opened(cluster, name)
    theirs = other.prepare(Wanted())
    desk.execute(slow["digest"], "ada")
    until_moved(desk)
    with pytest.raises(RunningError, match=r"of ada \(console of "):
        other.execute(theirs["digest"], "bob")
    assert main(["dlq", "replay", f"{name}.dlq", "--execute", *settings(cluster, name)]) == ExitCode.FENCED
    assert "of ada (console of " in capsys.readouterr().err
    assert desk.jobs()[0]["state"] == "running"
    desk.close()
    assert desk.jobs()[0]["state"] == "stopped"
    # It gave the topic back, so that nobody has to wait.
    assert main(["dlq", "replay", f"{name}.dlq", "--execute", *settings(cluster, name)]) == ExitCode.DONE
    assert len(read(cluster, f"{name}.in")) == 8


def test_a_cancelled_job_is_known_to_every_console_and_goes_on(
    cluster: Any, name: str, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it runs another console sees how far it is; once cancelled, what was moved stays moved, who cancelled it is
    on the audit, and the same job moves the rest. So it is with a job of the command line."""
    slow = desk.prepare(Wanted(rate=4.0, job=f"slow-{name}"))
    desk.execute(slow["digest"], "ada")
    until_moved(desk)
    other = opened(cluster, name)
    (seen,) = jobs(other, name)
    assert (seen["state"], seen["total"], seen["action"]) == ("running", 8, "replay")
    assert 0 < seen["moved"] < 8
    with pytest.raises(UsageError, match="is not running in this console"):
        other.cancel(f"slow-{name}", "bob")
    desk.cancel(f"slow-{name}", "bob")
    moved = ended(desk)["moved"]
    assert moved < 8
    assert len(read(cluster, f"{name}.in")) == moved

    later = opened(cluster, name)  # a console that was started anew
    (told,) = jobs(later, name)
    assert (told["state"], told["moved"], told["total"]) == ("stopped", moved, 8)
    assert told["outcome"] == "cancelled by bob"
    assert told["by"].startswith("ada (console of ")
    rest = later.prepare(Wanted(rate=100.0, job=f"slow-{name}"))
    assert (rest["resumed"], rest["total"]) == (True, 8 - moved)
    later.execute(rest["digest"], "bob")
    assert (ended(later)["state"], ended(later)["moved"]) == ("done", 8)
    assert len(read(cluster, f"{name}.in")) == 8

    put(cluster, f"{name}.dlq", ours(9, origin=f"{name}.in"))
    replay = ["dlq", "replay", f"{name}.dlq", "--job", f"typed-{name}", "--execute", *settings(cluster, name)]
    assert main(replay) == ExitCode.DONE
    capsys.readouterr()
    newest = jobs(opened(cluster, name), name)[0]
    assert (newest["job"], newest["state"], newest["moved"]) == (f"typed-{name}", "done", 1)


def test_one_dead_letter_is_edited_and_one_is_discarded(cluster: Any, name: str, desk: Desk) -> None:
    """These and no others, and each knows who did it and why. Neither is found open any more, and a search tells what
    became of them."""
    looks = Looks(desk._config, show_text=True)
    found = looks.letters(Filter())["letters"]
    assert len(found) == 8
    edited, dropped = found[2], found[5]
    dry = desk.prepare(Wanted(action="edit", places=[edited["place"]], value='{"text": "fixed"}'))
    assert (dry["total"], dry["closed"]) == (1, 0)
    desk.execute(dry["digest"], "ada")
    assert ended(desk)["state"] == "done"
    assert [record.value() for record in read(cluster, f"{name}.in")] == [b'{"text": "fixed"}']

    reason = "a test of the producer's"
    asked = Wanted(action="discard", places=[dropped["place"]], reason=reason, since_ms=dropped["timestamp_ms"])
    dry = desk.prepare(asked)
    assert dry["moves"] == [{"from": f"{name}.dlq", "to": None, "partition": None, "count": 1}]
    desk.execute(dry["digest"], "bob")
    assert ended(desk)["state"] == "done"
    assert len(read(cluster, f"{name}.in")) == 1

    assert len(looks.letters(Filter())["letters"]) == 6
    (gone,) = looks.letters(Filter(text=dropped["place"], closed=True))["letters"]
    assert (gone["state"]["state"], gone["state"]["reason"]) == ("discarded", reason)
    (changed,) = looks.letters(Filter(text=edited["origin"], closed=True))["letters"]
    assert changed["place"] == edited["place"]
    assert looks.letters(Filter(text=edited["origin"]))["letters"] == []
    assert looks.letters(Filter(codes=["no.such"]))["letters"] == []
    assert looks.letters(Filter(until_ms=found[0]["timestamp_ms"] - 1))["letters"] == []
    (discarded, edit) = jobs(desk, name)
    assert (discarded["action"], edit["action"]) == ("discard", "edit")
    assert discarded["wanted"]["reason"] == reason
    assert "fixed" not in str(edit)
