"""Replays from the console on a real cluster: what was shown is what moves, beside other consoles and the command
line."""

from __future__ import annotations

import time
from typing import Any

import pytest

from streamer.cli import main
from streamer.config.load import load
from streamer.console.actions import Desk, Wanted
from streamer.errors import ExitCode, UsageError
from streamer.ops.dlq.claims import RunningError
from tests.integration.test_dlq import cluster, folders_of_its_own, json_lines, make, name, put, read, settings
from tests.unit.deadletters_kit import ours

__all__ = ["cluster", "folders_of_its_own", "name"]


def ended(desk: Desk) -> dict[str, Any]:
    """The newest job, once it has ended."""
    deadline = time.monotonic() + 60
    while (job := desk.jobs()[0])["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job


@pytest.fixture
def desk(cluster: Any, name: str) -> Desk:
    """A console's desk over eight dead letters."""
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in") for n in range(8)))
    return Desk(load(settings(cluster, name)[1]), show_text=False)


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
    assert "what would move has changed since the dry run (5 instead of 8)" in job["error"]
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
    other = Desk(load(settings(cluster, name)[1]), show_text=False)
    theirs = other.prepare(Wanted())
    desk.execute(slow["digest"], "ada")
    deadline = time.monotonic() + 60
    while not desk.jobs()[0]["moved"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(RunningError, match=r"of ada \(console of "):
        other.execute(theirs["digest"], "bob")
    assert main(["dlq", "replay", f"{name}.dlq", "--execute", *settings(cluster, name)]) == ExitCode.FENCED
    assert "of ada (console of " in capsys.readouterr().err
    assert desk.jobs()[0]["state"] == "running"
    desk.close()
    assert desk.jobs()[0]["state"] == "interrupted"
    # It gave the topic back, so that nobody has to wait.
    assert main(["dlq", "replay", f"{name}.dlq", "--execute", *settings(cluster, name)]) == ExitCode.DONE
    assert len(read(cluster, f"{name}.in")) == 8
