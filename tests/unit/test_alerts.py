"""The alerts in deploy/prometheus: they speak of what there is, and fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streamer.cli import cli
from streamer.telemetry.catalogue import METRICS
from tests.programs import program, run_program

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES, TESTS = FOLDER / "streamer.rules.yml", FOLDER / "streamer.test.yml"
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
NAMES = [alert["alert"] for alert in ALERTS]
BY_NAME = {metric.name: metric for metric in METRICS}
FROM_PROMETHEUS = {"up", "ALERTS"}
OF_THE_SCRAPE = {"instance", "job", "pipeline"}

_SELECTOR = re.compile(r"\b(streamer_\w+|up|ALERTS)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
_COMMAND = re.compile(r"`streamer ([a-z ]+)[^`]*`")


def check(expression: str) -> None:
    """Every metric is in the catalogue, with these labels, and with these of their values where they are known."""
    for name, matchers in _SELECTOR.findall(expression):
        if name in FROM_PROMETHEUS:
            continue
        assert name in BY_NAME, f"{name} is no metric: {expression}"
        metric = BY_NAME[name]
        for label, how, value in _MATCHER.findall(matchers):
            assert label in (*metric.labels, *OF_THE_SCRAPE), f"{name} has no label {label}"
            if label in metric.labels and metric.known:
                known = {values[metric.labels.index(label)] for values in metric.known}
                assert set(value.split("|") if how == "=~" else [value]) <= known, f"{name}: {label} is never {value}"


def series() -> Iterator[str]:
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        yield from (one["series"] for one in test["input_series"])


def test_there_are_ten_and_each_says_what_to_do() -> None:
    """A severity, a line, a description and a runbook; the commands in these exist."""
    assert len(NAMES) == len(set(NAMES)) == 10
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description", "runbook", "runbook_url"}
        for command in _COMMAND.findall(" ".join(alert["annotations"].values())):
            found: Any = cli
            for word in command.split():
                if not isinstance(found, click.Group):
                    break
                found = found.get_command(click.Context(found), word)
                assert found is not None, f"there is no `streamer {command}`"


@pytest.mark.parametrize("name", NAMES)
def test_what_an_alert_looks_at_exists(name: str) -> None:
    alert = ALERTS[NAMES.index(name)]
    check(alert["expr"])
    check(" ".join(alert["annotations"].values()))


def test_what_the_tests_feed_exists() -> None:
    """A test of an alert on a series that no process has proves nothing; and each alert has a test."""
    for one in series():
        check(one)
    assert set(NAMES) <= set(re.findall(r'alertname="(\w+)"', TESTS.read_text()))


def run_promtool(tests: Path) -> subprocess.CompletedProcess[str]:
    return run_program(program("promtool"), "test", "rules", tests.name, cwd=tests.parent)


@pytest.mark.case(97)
def test_they_fire_when_they_should() -> None:
    """And stay silent over a healthy pipeline, as Prometheus itself judges."""
    ran = run_promtool(TESTS)
    assert ran.returncode == 0, ran.stdout + ran.stderr


NEVER_FIRES = {"expr": "vector(1) > 2"}
NEVER_ENDS = {"keep_firing_for": "30d"}


def silently_passed(rules: Path, tests: Path, folder: Path, fault: dict[str, str]) -> set[str]:
    """The alerts whose tests pass although each of them has this fault."""
    changed = yaml.safe_load(rules.read_text())
    alerts = [alert for group in changed["groups"] for alert in group["rules"]]
    for alert in alerts:
        alert.update(fault)
    (folder / rules.name).write_text(yaml.safe_dump(changed))
    shutil.copy(tests, folder)
    said = run_promtool(folder / tests.name).stderr
    return {alert["alert"] for alert in alerts if alert["alert"] not in said}


@pytest.mark.parametrize("fault", [NEVER_FIRES, NEVER_ENDS], ids=["never fires", "never ends"])
def test_faults_of_alerts_are_found(tmp_path: Path, fault: dict[str, str]) -> None:
    """The tests of the alerts can fail, for each of them: when it never fires, and when it never ends."""
    assert not silently_passed(RULES, TESTS, tmp_path, fault)
