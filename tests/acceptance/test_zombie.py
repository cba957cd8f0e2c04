"""A process that stands still with its transaction open, for longer than anybody waits for it, and goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.local import Stack
from tests.acceptance.harness import Lab, Run, check, event, wait_for

SESSION_MS, TRANSACTION_MS = 2_000, 1_500
QUICK_BROKER = {
    "group.min.session.timeout.ms": 500,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 200,
}
EVENTS = 4_000


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A broker of these tests' own, which ends transactions and sessions soon."""
    with Stack.start(redis=False, kafka_config=QUICK_BROKER) as stack:
        yield stack


@pytest.fixture
def lab(stack: Stack, tmp_path: Path) -> Iterator[Lab]:
    with Lab(stack.bootstrap_servers, tmp_path) as lab:
        lab.topics(2)
        lab.produce(event(number) for number in range(EVENTS))
        yield lab


def start(lab: Lab, session_ms: int) -> Run:
    times = {"session.timeout.ms": session_ms, "heartbeat.interval.ms": 300, "transaction.timeout.ms": TRANSACTION_MS}
    options = [part for name, value in times.items() for part in ("--set", f"kafka.properties.{name}={value}")]
    return lab.start(lab.config(micro_batch_records=100, options={"text_us": 300}), *options)


def finish(lab: Lab, *runs: Run) -> None:
    """All outcomes, once and in order, and orderly ends."""
    reader = lab.reader()
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes", run=runs[0])
    assert [run.stop() for run in runs] == [0] * len(runs), runs[0].log
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.slow
@pytest.mark.case(3)
@pytest.mark.promise(1)
def test_a_zombie_writes_nothing_and_joins_again(lab: Lab) -> None:
    """Frozen past its session while another takes its partitions over: what it had open is not seen, it comes back
    into the group by itself, and nothing is there twice."""
    zombie = start(lab, SESSION_MS)
    lab.freeze_in_transaction(zombie)
    other = start(lab, SESSION_MS)
    wait_for(lambda: other.assigned(), "the take-over", run=other)
    zombie.signal(signal.SIGCONT)
    wait_for(lambda: '"message":"lost"' in zombie.log, "its loss to be noticed", run=zombie)
    wait_for(lambda: zombie.assigned(2), "its return", run=zombie)
    lab.produce(event(number) for number in range(EVENTS, EVENTS + 200))
    finish(lab, zombie, other)


@pytest.mark.case(4)
@pytest.mark.promise(1)
def test_a_transaction_that_timed_out_is_made_again(lab: Lab) -> None:
    """Frozen past the transaction's timeout, still a member: the broker fenced its producer, a new one in the same
    process writes the same outcomes, and nothing is there twice."""
    run = start(lab, 10 * SESSION_MS)
    lab.freeze_in_transaction(run)
    wait_for(lambda: not lab.open_transactions(), "the broker to end the transaction")
    run.signal(signal.SIGCONT)
    wait_for(lambda: '"reason":"rebuild"' in run.log, "a new producer", run=run)
    assert not run.assigned(2)
    finish(lab, run)
