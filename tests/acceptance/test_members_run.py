"""Several members of one pipeline under one `run`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from streamer.local.ports import LOOPBACK, free_ports
from streamer.telemetry.scrape import scrape
from tests.acceptance.harness import Lab, Run, children, event, wait_for
from tests.acceptance.harness import check as anomalies_of
from tests.conftest import Kafka

pytestmark = [pytest.mark.every_way, pytest.mark.usefixtures("kafka")]


def test_a_member_that_is_killed_under_load(lab: Lab) -> None:
    """Each has a slot, a port and its part of the partitions; the first port is ready when all are. One that is killed
    is started again and finds its partitions: every event has one result, in order, and no other member is disturbed.
    """
    first, second = free_ports(2, adjacent=True)
    lab.telemetry["http"] = f"{LOOPBACK}:{first}"
    lab.topics(4)
    run = lab.start(lab.config(slot="a", options={"text_us": 200}), "--members", "2")
    reader = lab.reader()
    wait_for(lambda: _ready(first) == [], "both members", run=run)
    replicas = [scrape(f"http://{LOOPBACK}:{port}/metrics") for port in (first, second)]
    assert [(one.slot, one.pipeline) for one in replicas] == [("a", "p"), ("a.2", "p")]
    with urlopen(f"http://{LOOPBACK}:{second}/metrics", timeout=5) as page:
        assert b'streamer_workers_ready{member="2",pipeline="p"}' in page.read()
    wait_for(lambda: run.assigned(2), "partitions of both", run=run)
    with lab.flow():
        wait_for(lambda: reader.count > 1_000, "results", run=run)
        victim = _pid_of(run, 2)
        os.kill(victim, signal.SIGKILL)
        told = wait_for(lambda: _ready(first), "that the first tells of the second", run=run)
        assert all(reason.startswith("member 2: ") for reason in told)
        wait_for(lambda: _ready(first) == [], "its successor", run=run)
        count = reader.count
        wait_for(lambda: reader.count > count + 2_000, "results after that", run=run)
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes", run=run)
    assert _workers(lab) == {"a", "a.2"}
    assert run.stop() == 0, run.log
    found = anomalies_of(lab.given, reader.outcomes, lambda _: "")
    assert not found, str(found)
    lines = [json.loads(line) for line in run.log.splitlines() if line.startswith("{")]
    (ended,) = [line for line in lines if "ended of SIGKILL" in line["message"]]
    assert (ended["pipeline"], ended["member"]) == ("p", 2)
    assert not [line for line in lines if line["message"] == "revoked" and line.get("member") == 1][1:]


def test_more_members_than_partitions_end_with_the_log(lab: Lab, kafka: Kafka) -> None:
    """One stands by, and says so. All of the log is answered before the last member ends."""
    lab.topics(2)
    lab.produce(event(number) for number in range(6_000))
    run = lab.start(lab.config(members=3, revoke_deadline_s=1, options={"text_us": 100}), "--until-end")
    reader = lab.reader()
    assert run.wait(120) == 0, run.log
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    found = anomalies_of(lab.given, reader.outcomes, lambda _: "")
    assert not found, str(found)


def test_a_member_that_joins_late_does_not_end_early(lab: Lab) -> None:
    """The group says first that nothing is left for it, and gives it partitions only once their owner has let go."""
    lab.topics(2)
    lab.produce(event(number) for number in range(12_000))
    config = lab.config(options={"text_us": 1_000}, micro_batch_records=500)
    first = lab.start(config, "--until-end")
    wait_for(first.assigned, "the first's partitions", run=first)
    late = lab.start(config, "--until-end")
    assert (late.wait(120), first.wait(120)) == (0, 0), first.log + late.log
    assert late.assigned(), late.log
    reader = lab.reader()
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    found = anomalies_of(lab.given, reader.outcomes, lambda _: "")
    assert not found, str(found)


EAGER = """
import streamer.app.growth as growth
growth.LOOK_S, growth.LOOKS, growth.BUSY, growth.SPARE = 0.5, 2, 0.0, 0.0
growth.most_processes = lambda: 2
import runpy
runpy.run_module("streamer", run_name="__main__", alter_sys=True)
"""
"""Two idle processes are enough for it, and idle cores are not asked for."""


def test_members_are_added_while_it_runs(lab: Lab) -> None:
    """With `members = 0`: one that is added has a port and slot of its own, and gets its part of the partitions."""
    first, second = free_ports(2, adjacent=True)
    lab.telemetry["http"] = f"{LOOPBACK}:{first}"
    lab.topics(2)
    config = lab.config(members=0, revoke_deadline_s=2)
    run = Run([sys.executable, "-c", EAGER, "run", f"--config={config}"], lab.folder / "eager.log")
    lab.runs.append(run)
    wait_for(lambda: '"message":"one more member"' in run.log, "a second member", run=run)
    wait_for(lambda: _ready(first) == [] == _ready(second), "both", run=run)
    wait_for(lambda: run.assigned(2), "partitions of both", run=run)
    reader = lab.reader()
    lab.produce(event(number) for number in range(1_000))
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes", run=run)
    assert _workers(lab) == {scrape(f"http://{LOOPBACK}:{port}/metrics").slot for port in (first, second)}
    assert run.stop() == 0, run.log
    assert run.log.count('"message":"one more member"') == 1
    found = anomalies_of(lab.given, reader.outcomes, lambda _: "")
    assert not found, str(found)


def _ready(port: int) -> list[str]:
    """What the process at this port says it lacks."""
    try:
        with urlopen(f"http://{LOOPBACK}:{port}/readyz", timeout=5) as page:
            body = page.read()
    except HTTPError as error:
        with error:
            body = error.read()
    except OSError:
        return ["nobody answers"]
    reasons: list[str] = json.loads(body)["reasons"]
    return reasons


def _workers(lab: Lab) -> set[str]:
    return {report["member"] for report in lab.read_reports() if report.get("results")}


def _pid_of(run: Run, member: int) -> int:
    for pid in children(run.pid):
        if f"--member\0{member}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError(f"there is no member {member}:\n{run.log}")
