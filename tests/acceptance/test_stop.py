"""Signals: the first one drains, the second one ends at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from streamer.local.ports import LOOPBACK
from tests.acceptance.harness import ROOT, Lab, check, children, event, wait_for


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


@pytest.mark.case(77)
def test_a_signal_before_all_is_ready(lab: Lab) -> None:
    """SIGTERM at any time of a start ends one pipeline and the supervisor of two with exit code 0, or with that of a
    process that the signal ended while nothing had been touched. None is lost."""
    lab.topics(1)
    one = lab.config("builtin:null")
    both = lab.folder / "two.toml"
    both.write_text(one.read_text().replace("[pipelines.p]", "[pipelines.q]") + _second_pipeline(one.read_text()))
    runs = [(lab.start(one), delay) for delay in (0.1, 0.4, 0.8)]
    for run, delay in runs:
        time.sleep(delay)
        assert run.stop() in (0, 128 + signal.SIGTERM, -signal.SIGTERM), run.log
    for delay in (0.0, 0.2, 0.6):
        run = lab.start(both)
        wait_for(lambda run=run: children(run.pid), "the first child", run=run)
        time.sleep(delay)
        began = time.monotonic()
        assert run.stop() == 0, run.log
        assert time.monotonic() - began < 25, "it was killed, or its children were"


@pytest.mark.case(77)
def test_a_signal_while_brokers_do_not_answer(lab: Lab) -> None:
    """SIGTERM is not held up by a broker that takes connections and says nothing: exit code 0 at once."""
    with socket.socket() as silent:
        silent.bind((LOOPBACK, 0))
        silent.listen(100)
        lab.bootstrap_servers = f"{LOOPBACK}:{silent.getsockname()[1]}"
        run = lab.start(lab.config("builtin:null"))
        wait_for(lambda: run.worker_pids(), "its worker", run=run)
        time.sleep(1)  # it loads, then the producer waits
        began = time.monotonic()
        assert run.stop() == 0, run.log
        assert time.monotonic() - began < 10


def _second_pipeline(text: str) -> str:
    pipeline = text[text.index("[pipelines.p]") :]
    return "\n\n" + pipeline.replace('.group"', '.other"')


@pytest.mark.case(78)
@pytest.mark.case(79)
def test_a_log_that_nobody_reads(lab: Lab) -> None:
    """A full pipe behind standard error holds up neither answers nor a stop. Once it is read again the log goes on,
    with few lines of one cause, and workers' own words on standard error are among them."""
    lab.topics(2)
    lab.produce(event(number) for number in range(3_000))
    reader = lab.reader()
    config = lab.config("python:tests.python_models:Chatty")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"-" * 4095 + b"\n")
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "streamer", "run", "--config", str(config), "--set", "telemetry.log_level=debug"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=writing, stderr=writing)
    os.close(writing)
    try:
        wait_for(lambda: reader.count >= 3_000, "all outcomes")
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == 0
    finally:
        run.kill()
        os.close(reading)
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(79)
def test_a_chatty_model_does_not_flood_the_log(lab: Lab) -> None:
    """3,000 lines of a model's log and 6,000 on its standard error are a few, which name the pipeline and say how many
    were left out."""
    lab.topics(1)
    lab.produce(event(number) for number in range(3_000))
    run = lab.start(lab.config("python:tests.python_models:Chatty"), "--until-end")
    assert run.wait() == 0
    lines = [json.loads(line) for line in run.log.splitlines()]
    assert {line["pipeline"] for line in lines} == {"p"}
    assert 3 <= len(lines) < 1_000
    told = [line for line in lines if any(word in line["message"] for word in ("raw", "printed", "logged"))]
    assert sum(1 + line.get("left_out", 0) for line in told) >= 9_000
