"""Several pipelines under one `run`, the breaker, and two runs under one slot."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from streamer.core.pipeline.breaker import BreakerPolicy
from streamer.local.ports import LOOPBACK, free_ports
from tests.acceptance.harness import Lab, alive, check, children, event, wait_for
from tests.conftest import Kafka


def test_several_pipelines_end_together(lab: Lab, kafka: Kafka) -> None:
    """`run --until-end` of two pipelines exits 0 once both have done all."""
    with _second_lab(lab, kafka) as other:
        config = lab.write_config({"p": lab.pipeline(), "q": other.pipeline("builtin:null")})
        readers = lab.reader(), other.reader()
        run = lab.start(config, "--until-end")
        assert run.wait() == 0, run.log
        for each, reader in zip((lab, other), readers, strict=True):
            wait_for(lambda each=each, reader=reader: reader.count >= len(each.given), "all outcomes")
            anomalies = check(each.given, reader.outcomes, lambda _: "")
            assert not anomalies, str(anomalies)


@pytest.mark.case(20)
def test_one_of_several_halts(lab: Lab, kafka: Kafka) -> None:
    """A model that raises for everything but its probe halts its pipeline with exit 6, as soon as the breaker has seen
    enough; the other one finishes."""
    with _second_lab(lab, kafka) as other:
        config = lab.write_config({"p": lab.pipeline(), "q": other.pipeline(options={"fail": True})})
        readers = lab.reader(), other.reader()
        run = lab.start(config, "--until-end")
        assert run.wait() == 6, run.log
        wait_for(lambda: readers[0].count >= len(lab.given), "all outcomes")
        assert readers[1].count < BreakerPolicy().minimum
        assert other.committed() < BreakerPolicy().minimum


@pytest.mark.case(82)
def test_one_of_several_is_down_for_good(lab: Lab, kafka: Kafka) -> None:
    """A pipeline that no restart fixes is named in the log and in the `/readyz` that was its own, while the other one
    answers; one that a signal kills is reported as such and started again. The exit code tells of the first."""
    ports = free_ports(2, adjacent=True)
    lab.telemetry["http"] = f"{LOOPBACK}:{ports[0]}"
    with _second_lab(lab, kafka) as other:
        config = lab.write_config({"p": lab.pipeline(), "q": other.pipeline(output=f"{other.name}.none")})
        run = lab.start(config)
        reader = lab.reader()
        wait_for(lambda: "pipeline q is down for good with exit code 3" in run.log, "its end", run=run)
        told = json.loads(wait_for(lambda: _not_ready(ports[1]), "its /readyz", run=run))
        assert told["pipeline"] == "q" and "exit code 3" in told["reasons"][0]
        wait_for(lambda: reader.count >= len(lab.given), "all outcomes of the other", run=run)
        (child,) = [pid for pid in children(run.pid) if alive(pid)]
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: "of pipeline p ended of SIGKILL" in run.log, "the killed one's end", run=run)
        wait_for(lambda: set(children(run.pid)) - {child}, "its successor", run=run)
        assert run.stop() == 3, run.log
        lines = [json.loads(line) for line in run.log.splitlines() if line.startswith("{")]
        assert all(line["pipeline"] for line in lines)
        (ended,) = [line for line in lines if "ended of SIGKILL" in line["message"]]
        assert (ended["pipeline"], ended["exit_code"], ended["signal"]) == ("p", 137, "SIGKILL")


def _not_ready(port: int) -> str:
    try:
        with urlopen(f"http://{LOOPBACK}:{port}/readyz", timeout=5):
            return ""
    except HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""


@pytest.mark.case(77)
@pytest.mark.parametrize("who", ["a terminal", "a service manager"])
def test_a_signal_to_all_stops_several_gracefully(lab: Lab, kafka: Kafka, who: str) -> None:
    """Ctrl-C on a terminal, which signals the whole process group, and systemd, which signals every process of a
    service, count as one signal: exit 0, nothing repeated."""
    with _second_lab(lab, kafka) as other:
        slow: dict[str, Any] = {"options": {"text_us": 500}, "guarantee": "at_least_once"}
        config = lab.write_config({"p": lab.pipeline(**slow), "q": other.pipeline(**slow)})
        readers = lab.reader(), other.reader()
        run = lab.start(config)
        wait_for(lambda: min(reader.count for reader in readers) >= 100, "outcomes of both", run=run)
        if who == "a terminal":
            run.signal_group(signal.SIGINT)
        else:
            for pid in (run.pid, *children(run.pid)):
                os.kill(pid, signal.SIGTERM)
        assert run.wait() == 0, run.log


@pytest.mark.case(82)
def test_no_pipeline_outlives_its_supervisor(lab: Lab, kafka: Kafka) -> None:
    """A supervisor that is killed takes its children with it, in order: what they had they settle."""
    with _second_lab(lab, kafka) as other:
        pipelines = {"p": lab.pipeline("builtin:null"), "q": other.pipeline("builtin:null")}
        run = lab.start(lab.write_config(pipelines))
        wait_for(lambda: run.log.count('"message":"assigned"') >= 2, "both", run=run)
        pids = children(run.pid)
        run.kill()
        wait_for(lambda: not any(map(alive, pids)), "their ends")
        assert len(pids) == 2 and run.log.count('"message":"stopping"') == 2, run.log


@pytest.mark.slow
@pytest.mark.case(20)
def test_the_breaker_halts_on_a_bad_stretch(lab: Lab) -> None:
    """When over half of a stretch fails the run halts with exit 6 and leaves the rest unsettled; with
    --accept-dead-letters the next run passes it."""
    lab.topics(2)
    lab.produce(event(n, "RAISE" if n >= 2_000 and n % 10 < 6 else "FINE") for n in range(1_000, 6_000))
    config = lab.config(micro_batch_records=200, options={"text_us": 200})
    reader = lab.reader()
    run = lab.start(config, "--until-end")
    assert run.wait() == 6, run.log
    assert "--accept-dead-letters" in run.log
    before = lab.committed()
    wait_for(lambda: reader.count >= before, "what was settled")
    assert reader.count == before
    assert sum(outcome.code != "" for outcome in reader.outcomes) <= before / 2
    assert before < 4_000, "too much of the stretch was settled"
    run = lab.start(config, "--until-end", "--accept-dead-letters", "4000")
    assert run.wait() == 0, run.log
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    anomalies = check(
        lab.given,
        reader.outcomes,
        lambda place: "infer.exception" if b"RAISE" in (lab.given[place].value or b"") else "",
    )
    assert not anomalies, str(anomalies)


@pytest.mark.case(11)
def test_one_slot_has_one_owner(lab: Lab) -> None:
    """A second run under the slot of the first exits 7 and says why; the first goes on."""
    lab.topics(2)
    config = lab.config(slot="a")
    first = lab.start(config)
    wait_for(lambda: first.assigned(), "the first run", run=first)
    second = lab.start(config)
    assert second.wait() == 7
    assert "slot a of group" in second.log
    reader = lab.reader()
    lab.produce(event(number) for number in range(100))
    wait_for(lambda: reader.count >= 100, "all outcomes", run=first)
    assert first.stop() == 0, first.log


def _second_lab(lab: Lab, kafka: Kafka) -> Lab:
    folder = Path(lab.folder / "other")
    folder.mkdir()
    other = Lab(kafka.bootstrap_servers, folder, pipeline_name="q")
    for each in (lab, other):
        each.topics(2)
        each.produce(event(number) for number in range(3_000))
    return other
