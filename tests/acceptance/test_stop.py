"""Signals: the first one drains, the second one ends at once."""

from __future__ import annotations

import signal
import time

import pytest

from tests.acceptance.harness import Lab, check, event, wait_for


@pytest.mark.case(37)
@pytest.mark.promise(11)
def test_sigterm_under_load_repeats_nothing(lab: Lab) -> None:
    """SIGTERM under load exits 0 in time, and even at least once the next run repeats nothing."""
    lab.topics()
    lab.produce(event(number) for number in range(30_000))
    config = lab.config(guarantee="at_least_once", stop_deadline_s=10, options={"text_us": 200})
    reader = lab.reader()
    for target in (2_000, 8_000):
        run = lab.start(config)
        wait_for(lambda target=target: reader.count >= target, f"{target} outcomes", run=run)
        began = time.monotonic()
        assert run.stop() == 0, run.log
        assert time.monotonic() - began < 10
    assert reader.count < len(lab.given), "it stopped after all was done: this proved nothing"
    assert lab.start(config, "--until-end").wait() == 0
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(37)
def test_the_second_signal_ends_at_once(lab: Lab) -> None:
    """A second SIGTERM exits 130 while the model still computes; the next run does what is left, once."""
    lab.topics()
    lab.produce(event(number, "SLEEP" if number == 5_000 else "") for number in range(10_000))
    config = lab.config(options={"text_us": 100}, micro_batch_records=500)
    reader = lab.reader()
    run = lab.start(config)
    wait_for(lambda: reader.count >= 1_000, "1,000 outcomes", run=run)
    run.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in run.log, "the first signal's effect", run=run)
    run.signal(signal.SIGTERM)
    began = time.monotonic()
    assert run.wait() == 130
    assert time.monotonic() - began < 1
    assert lab.start(config, "--until-end").wait() == 0
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)
