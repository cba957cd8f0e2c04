"""A record that takes the driver down, again and again; and drivers that end for other reasons."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamer.core.pipeline.attempts import Note
from streamer.errors import ExitCode
from tests.acceptance.harness import ROOT, Lab, Reader, Run, check, event, wait_for

EVENTS = 200
LIMIT = 3
# One death comes before there is a note, and a few more after which there was a settle.
MOST_DEATHS = LIMIT + 5
SESSION_MS = 6_000  # so long a dead process keeps its partitions: the least that a broker takes unless told otherwise


@pytest.mark.slow
@pytest.mark.case(64, 65)
@pytest.mark.parametrize("guarantee", ["exactly_once", pytest.param("at_least_once", marks=pytest.mark.every_way)])
def test_a_record_that_kills_the_driver_is_held_and_can_be_buried(lab: Lab, guarantee: str) -> None:
    """Although the process before the first that died had ended in order: its partition is held, the other one goes on,
    and what is said names the record. Buried while the pipeline runs, or does not, it is a dead letter, and all others
    have results."""
    lab.topics(2)
    lab.properties["session.timeout.ms"] = SESSION_MS
    lab.produce(event(number) for number in range(10))
    config = lab.config(guarantee=guarantee, crash_limit=LIMIT, micro_batch_records=50)
    assert lab.start(config, "--until-end").wait() == 0
    lab.produce(event(number, "PARRICIDE" if number == 10 else "") for number in range(10, EVENTS))
    reader = lab.reader()
    run = _restart_until_held(lab, config)
    killer = list(lab.given)[10]
    where = f"{lab.input}/{killer.partition}/{killer.offset}"
    said = next(json.loads(line) for line in run.log.splitlines() if '"reason":"held"' in line)
    assert f"streamer dlq bury {where}" in said["message"]
    assert (said["topic"], said["partition"], said["offset"]) == (lab.input, *killer)
    free = sum(place.partition != killer.partition or place < killer for place in lab.given)
    wait_for(lambda: reader.places == free, "the outcomes of all but the held", run=run)
    assert _dlq(config, "bury", f"{where[:-1]}9", "--yes").returncode == ExitCode.USAGE
    runs = guarantee == "exactly_once"
    for look in ("lag", "doctor") if runs else ():
        assert f"streamer dlq bury {where}" in _streamer(config, look).stdout.replace("\n", "")
    if not runs:
        assert run.stop() == 0
        run = lab.start(config, "--until-end")
        assert run.wait() == ExitCode.HALTED, run.log
        assert where in run.log
    buried = _dlq(config, "bury", where, "--yes")
    assert buried.returncode == 0, buried.stderr
    assert _dlq(config, "bury", where, "--yes").returncode == ExitCode.USAGE
    if not runs:
        assert lab.start(config, "--until-end").wait() == 0
    wait_for(lambda: reader.places == EVENTS, "all outcomes")
    if runs:
        assert run.stop() == 0
    _check(lab, reader, {10: "infer.buried"}, repeats=not runs)


@pytest.mark.case(66)
def test_only_deaths_count(lab: Lab) -> None:
    """With the same record in their hands two processes are killed, and one is stopped: its orderly end is not
    counted, nor the first death, of which nobody could know before."""
    lab.topics(1)
    lab.produce(event(number, "HANG" if number == 0 else "") for number in range(20))
    config = lab.config(crash_limit=LIMIT, stop_deadline_s=1)
    reader = lab.reader()
    for end, deaths in ((Run.kill, 0), (Run.kill, 0), (Run.stop, 1)):
        run = lab.start(config)
        wait_for(partial(_in_hands, lab, run, deaths), "the record in its hands", run=run)
        end(run)
    assert len(_note(lab).by) == 1
    assert lab.start(lab.config(crash_limit=LIMIT, lease_s=2), "--until-end").wait() == 0
    wait_for(lambda: reader.places == 20, "all outcomes")
    _check(lab, reader, {0: "infer.worker_hung"})


def _in_hands(lab: Lab, run: Run, deaths: int) -> bool:
    """Whether it was assigned its partition and has noted itself beside those that died. The first one does not: it has
    no evidence of a death, leaves its name alone and is not counted."""
    return run.assigned() and len(_note(lab).by) == deaths + (len(lab.runs) > 1)


def _restart_until_held(lab: Lab, config: Path) -> Run:
    """Start it, and again whenever it is killed, until it says that a partition is held."""
    deadline, before, run = time.monotonic() + 90, len(lab.runs), lab.start(config)
    while '"reason":"held"' not in run.log:
        assert time.monotonic() < deadline, run.log[-3000:]
        if run.ended:
            assert run.process.returncode == -signal.SIGKILL, run.log
            assert len(lab.runs) - before <= MOST_DEATHS
            run = lab.start(config)
        time.sleep(0.02)
    return run


def _dlq(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _streamer(config, "dlq", *arguments)


def _streamer(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", *arguments, "--config", str(config)]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def _note(lab: Lab) -> Note:
    """What the metadata of the committed offset say."""
    consumer = Consumer({"bootstrap.servers": lab.bootstrap_servers, "group.id": lab.group})
    try:
        (found,) = consumer.committed([TopicPartition(lab.input, 0)], timeout=10)
    except KafkaException:
        return Note()  # the coordinator is not there yet
    finally:
        consumer.close()
    return Note.read(found.metadata)


def _check(lab: Lab, reader: Reader, dead: dict[int, str], *, repeats: bool = False) -> None:
    codes = {place: dead.get(number, "") for number, place in enumerate(lab.given)}
    anomalies = check(lab.given, reader.outcomes, codes.__getitem__, repeats=repeats)
    assert not anomalies, str(anomalies)
