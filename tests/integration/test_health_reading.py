"""`streamer health status` on a real topic of reports."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from streamer.cli import main
from streamer.core.report import Report
from streamer.errors import ExitCode
from tests.acceptance.harness import Given, Lab, event
from tests.conftest import Kafka
from tests.health_kit import report

SINCE_S = 300


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        lab.create({lab.reports: {}}, 3)
        yield lab


def wrote(producer: Producer, topic: str, *reports: Report, commit: bool = True) -> None:
    """One transaction."""
    producer.begin_transaction()
    for one in reports:
        producer.produce(topic, msgspec.json.encode(one), one.pipeline.encode(), timestamp=one.time_ms)
    producer.flush(30)
    producer.commit_transaction(30) if commit else producer.abort_transaction(30)


def test_what_is_committed_counts_once(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """Of all partitions; not what was aborted, what is older, and what is no report. Sentences, a table and JSON."""
    now_ms = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "transactional.id": lab.name})
    producer.init_transactions(30)
    old, new = now_ms - 2 * SINCE_S * 1000, now_ms - 1_000
    first = [report(new - 10 * number, number * 10, number * 10 + 9, labels={"a": 10}) for number in range(20)]
    others = [report(new, number * 10, number * 10 + 9, pipeline=f"other{number}") for number in range(8)]
    wrote(producer, lab.reports, report(old, 900, 999), *first, *others)
    wrote(producer, lab.reports, report(new, 500, 599), commit=False)
    wrote(producer, lab.reports, *first[:5])
    producer.begin_transaction()
    producer.produce(lab.reports, b"no report", b"p")
    producer.commit_transaction(30)
    asked = [
        "health",
        "status",
        "--config",
        str(lab.config("builtin:null")),
        "--since",
        f"{SINCE_S}s",
        "--window",
        "1m",
    ]

    assert main([*asked, "--json"]) == ExitCode.DONE
    found = {each["pipeline"]: each["revisions"] for each in json.loads(capfd.readouterr().out)["pipelines"]}
    assert found.keys() == {"p", *(one.pipeline for one in others)}
    results = {name: counted(*revisions) for name, revisions in found.items()}
    assert results == {"p": (200, 200), **{one.pipeline: (10, 10) for one in others}}
    assert main([*asked, "p"]) == ExitCode.DONE
    told = capfd.readouterr().out
    assert told.startswith("p (m@r1): 200 results since ") and "answers a 100 %" in told and "other" not in told
    assert "drift is not judged" in told and "streamer health baseline save p" in told
    assert main([*asked, "q"]) == ExitCode.USAGE
    assert "knows of a pipeline q; there are: other0" in capfd.readouterr().err


def test_a_pipeline_that_runs_and_reads_again(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own reports: each result that is published counts, also of records that another group had answered before."""
    lab.topics(2)
    lab.produce([*(event(number) for number in range(10)), Given(b"k", b"no event", [])])
    for runs, group in enumerate(["first", "second"], 1):
        config = lab.config("builtin:null", group=f"{lab.group}.{group}")
        assert lab.start(config, "--until-end").wait() == 0
        capfd.readouterr()
        assert main(["health", "status", "p", "--config", str(config), "--json"]) == ExitCode.DONE
        ((revision,),) = (each["revisions"] for each in json.loads(capfd.readouterr().out)["pipelines"])
        assert counted(revision) == (10 * runs, 10 * runs)
        assert (revision["model"], revision["total"]["dead_letters"]) == ("null", {"decode.json": runs})
        assert revision["total"]["settled_again"] == 11 * (runs - 1)


def counted(revision: dict[str, Any]) -> tuple[int, int]:
    """The results of a revision in all, and of its windows."""
    return revision["total"]["results"], sum(window["results"] for window in revision["windows"])


def test_nothing_to_tell(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """A pipeline without a report is named, and how to look on; without a topic there is an error that says so."""
    asked = ["health", "status", "--config", str(lab.config("builtin:null"))]
    assert main(asked) == ExitCode.DONE
    assert capfd.readouterr().out.startswith("p: nothing settled since ")
    assert main([*asked, "--set", "telemetry.reports="]) == ExitCode.USAGE
    assert "set telemetry.reports" in capfd.readouterr().err
    assert main([*asked, "--set", f"telemetry.reports={lab.name}.none"]) == ExitCode.CONFIGURATION
    assert "has no topic" in capfd.readouterr().err
