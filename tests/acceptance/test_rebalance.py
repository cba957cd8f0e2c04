"""Members come and go with work in flight."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.harness import Lab, Reader, Run, check, event, wait_for

SESSION_TIMEOUT_S = 6  # the least that a broker takes where nothing else is said


@pytest.mark.slow
@pytest.mark.case(7)
@pytest.mark.promise(3)
def test_a_member_joins_and_leaves(lab: Lab) -> None:
    """A second member that joins and leaves in mid-stream costs no record, repeats none and reorders none."""
    lab.topics()
    lab.produce(event(number) for number in range(100_000))
    config = lab.config(static_membership=False, options={"text_us": 100})
    reader = lab.reader()
    first = lab.start(config)
    _progress(reader, first, 5_000)
    second = lab.start(config)
    _assigned(second)
    _progress(reader, first, 5_000)
    assert second.stop() == 0, second.log
    _finish(lab, reader, first)


@pytest.mark.slow
@pytest.mark.promise(1)
def test_a_member_dies_for_good(lab: Lab) -> None:
    """The partitions of a member that was killed and never returns are taken over, without loss or repeat."""
    lab.topics()
    lab.produce(event(number) for number in range(60_000))
    lab.properties = {"session.timeout.ms": 1_000 * SESSION_TIMEOUT_S, "heartbeat.interval.ms": 1_500}
    config = lab.config(options={"text_us": 100})
    reader = lab.reader()
    first = lab.start(config)
    _progress(reader, first, 2_000)
    second = lab.start(config)
    _assigned(second)
    _progress(reader, first, 5_000)
    second.kill()
    killed = time.monotonic()
    wait_for(lambda: first.assigned(2), "the take-over", 40, run=first)
    assert time.monotonic() - killed < 2.5 * SESSION_TIMEOUT_S
    _finish(lab, reader, first)


def _progress(reader: Reader, run: Run, count: int) -> None:
    target = reader.count + count
    wait_for(lambda: reader.count >= target, f"{target} outcomes", run=run)


def _assigned(run: Run) -> None:
    wait_for(lambda: run.assigned(), "partitions for the second member", run=run)


def _finish(lab: Lab, reader: Reader, run: Run) -> None:
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes", run=run)
    assert run.stop() == 0, run.log
    assert lab.start(lab.folder / "streamer.toml", "--until-end").wait() == 0
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)
