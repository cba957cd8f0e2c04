"""Nothing is lost and nothing doubled, whatever is killed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest

from streamer.core.intake import RECORD_OVERHEAD_BYTES
from streamer.kafka.clients import in_flight_bytes
from tests.acceptance.harness import Given, Lab, Place, Reader, Run, check, event, wait_for

EVENTS = 24_000
DRIVER_KILLS = 5
WORKER_KILLS = 5
BUDGET_MB = 8
OPTIONS = {"batch_ms": 1, "text_us": 50}


@pytest.mark.slow
@pytest.mark.case(1, 41)
@pytest.mark.promise(1, 3)
def test_exactly_once_through_kills_of_driver_and_worker(lab: Lab) -> None:
    """After kill -9 of driver and worker with transactions open, each input has one outcome, in order, and the reports
    count each once."""
    reader = crash(lab, "exactly_once")
    anomalies = check(lab.given, reader.outcomes, expected(lab))
    assert not anomalies, str(anomalies)
    reports = lab.read_reports()
    assert sum(report["results"] + sum(report["dead_letters"].values()) for report in reports) == len(lab.given)
    ranges = sorted((partition, first, last) for report in reports for _, partition, first, last in report["ranges"])
    assert sum(last + 1 - first for _, first, last in ranges) == len(lab.given)
    assert all(one[0] < other[0] or one[2] < other[1] for one, other in pairwise(ranges))


@pytest.mark.slow
@pytest.mark.case(2)
@pytest.mark.promise(2, 3, 4)
def test_at_least_once_through_kills_of_driver_and_worker(lab: Lab) -> None:
    """After the same kills in at-least-once mode nothing is missing, repeats come after a first in order, and there are
    no more of them than were in flight."""
    reader = crash(lab, "at_least_once")
    anomalies = check(lab.given, reader.outcomes, expected(lab), repeats=True)
    assert not anomalies, str(anomalies)
    assert reader.count - len(lab.given) <= DRIVER_KILLS * in_flight_bytes(BUDGET_MB) / RECORD_OVERHEAD_BYTES
    results = [outcome for outcome in reader.outcomes if not outcome.code]
    assert len({outcome.headers["ce_id"] for outcome in results}) == len({outcome.place for outcome in results})


def crash(lab: Lab, guarantee: str) -> Reader:
    """Run 24,000 events through kills at random places of their way; returns the reader, at the end.

    Where there are transactions, every second kill of the driver waits for an open one: after the commit that brought
    the reader here there is often none.
    """
    lab.topics()
    lab.produce(_records())
    config = lab.config(guarantee=guarantee, micro_batch_records=500, budget_mb=BUDGET_MB, options=OPTIONS)
    reader = lab.reader()
    moments = random.Random(7)
    run = lab.start(config)
    for kill in range(DRIVER_KILLS + WORKER_KILLS):
        target = reader.count + moments.randint(1_200, 2_200)
        _reach(reader, run, target)
        if kill % 2 == 0:
            _kill_worker(run)
            continue
        if guarantee == "exactly_once" and kill % 4 == 1:
            lab.freeze_in_transaction(run)
        run.kill()
        run = lab.start(config)
    _reach(reader, run, len(lab.given))
    wait_for(lambda: reader.places >= len(lab.given), "all outcomes", run=run)
    assert run.stop() == 0, run.log
    assert lab.start(config, "--until-end").wait() == 0
    return reader


def expected(lab: Lab) -> Callable[[Place], str]:
    """What each record of `_records` ends as."""

    def code(place: Place) -> str:
        value = lab.given[place].value or b""
        return "decode.json" if value.endswith(b"oops") else "infer.exception" if b"RAISE" in value else ""

    return code


def _records() -> list[Given]:
    records = [event(number, "RAISE" if number % 500 == 250 else "") for number in range(EVENTS)]
    for number in range(0, EVENTS, 100):
        records[number] = Given(b"k%d" % number, b"%d oops" % number, [("trace", b"%d" % number)])
    return records


def _kill_worker(run: Run) -> None:
    pid = wait_for(lambda: run.worker_pids(), "a worker", run=run)[0]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _reach(reader: Reader, run: Run, count: int) -> None:
    wait_for(lambda: reader.count >= count, f"{count} outcomes", run=run)
