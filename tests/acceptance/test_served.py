"""The server that runs a pipeline's model restarts under load."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from streamer.errors import ExitCode
from tests.acceptance.harness import Lab, Run, check, event, wait_for
from tests.model_server import ModelServer

EVENTS = 400


def readiness(run: Run) -> str:
    """What /readyz says; "" where the run is ready."""
    served = next(line for line in run.log.splitlines() if "are served" in line)
    try:
        with urllib.request.urlopen(f"http://{json.loads(served)['address']}/readyz", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


@pytest.mark.slow
def test_a_models_server_restarts_under_load(lab: Lab) -> None:
    """Its texts wait, /readyz and the log name the server and why, and once it is back all are answered in order:
    nothing is lost, doubled or a dead letter, but for the one that it refuses. Results name its model."""
    lab.topics(partitions=2)
    reader = lab.reader()
    with ModelServer(delay_s=0.005) as server:
        url = f"{server.url}/v1"
        config = lab.config(url, task="text-generation", backend="openai", threads=0, options={"chat": True})
        run = lab.start(config, "--set", "telemetry.http=127.0.0.1:0")
        lab.produce(event(number, "BAD" if number == 7 else "") for number in range(EVENTS))
        wait_for(lambda: reader.count >= 50, "some outcomes", run=run)
        server.stop()
        why = f"{url}: it refuses connections"
        wait_for(lambda: why in readiness(run), "word of the server in /readyz", run=run)
        assert why in run.log
        server.start()
        wait_for(lambda: reader.count >= EVENTS, "all outcomes", run=run)
        wait_for(lambda: not readiness(run), "readiness", run=run)
        assert run.stop() == ExitCode.DONE
    bad = next(place for place, given in lab.given.items() if b"BAD" in (given.value or b""))
    anomalies = check(lab.given, reader.outcomes, lambda place: "infer.server" if place == bad else "")
    assert not anomalies, anomalies
    results = [one.body for one in reader.outcomes if not one.code]
    assert {(one["model"]["name"], one["model"]["revision"][:5]) for one in results} == {("tiny-chat", "fp_1-")}
    texts = {json.loads(lab.given[one.place].value or b"")["text"]: one for one in reader.outcomes if not one.code}
    assert all(one.body["output"]["text"] == text[::-1] for text, one in texts.items())
