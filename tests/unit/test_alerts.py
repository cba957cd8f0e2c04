"""The alerts in deploy/prometheus: they speak of what there is, and fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streamer.cli import cli
from streamer.telemetry.catalogue import METRICS
from streamer.telemetry.health_metrics import FAILURES, HealthMetrics
from tests.programs import program, run_program

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
FROM_PROMETHEUS = {"up", "ALERTS"}

_SELECTOR = re.compile(r"\b(streamer_\w+|up|ALERTS)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
_COMMAND = re.compile(r"`streamer ([a-z ]+)[^`]*`")

Metric = tuple[set[str], dict[str, set[str]]]
"""Its labels, and the values of those whose values are known."""


def of_drivers() -> dict[str, Metric]:
    """What drivers serve, by the catalogue."""
    found: dict[str, Metric] = {}
    for metric in METRICS:
        known = {label: {values[at] for values in metric.known} for at, label in enumerate(metric.labels)}
        found[metric.name] = {*metric.labels, "instance", "job", "pipeline"}, known if metric.known else {}
    return found


def of_the_health_app() -> dict[str, Metric]:
    """What the health app serves, as it is scraped."""
    known = {"severity": {"page", "ticket"}, "what": set(FAILURES)}
    collectors = HealthMetrics().registry._names_to_collectors
    return {name: ({*getattr(one, "_labelnames", ()), "instance", "job"}, known) for name, one in collectors.items()}


@dataclass(frozen=True)
class Rules:
    """A file of alerts, with the file of its tests."""

    name: str
    count: int
    metrics: dict[str, Metric]

    @property
    def rules(self) -> Path:
        return FOLDER / f"{self.name}.rules.yml"

    @property
    def tests(self) -> Path:
        return FOLDER / f"{self.name}.test.yml"

    @cached_property
    def alerts(self) -> dict[str, dict[str, Any]]:
        listed = yaml.safe_load(self.rules.read_text())["groups"][0]["rules"]
        assert len(listed) == self.count
        return {alert["alert"]: alert for alert in listed}

    def check(self, expression: str) -> None:
        """Every metric is there, with these labels, and with these of their values where they are known."""
        for name, matchers in _SELECTOR.findall(expression):
            if name in FROM_PROMETHEUS:
                continue
            assert name in self.metrics, f"{name} is no metric: {expression}"
            labels, known = self.metrics[name]
            for label, how, value in _MATCHER.findall(matchers):
                assert label in labels, f"{name} has no label {label}"
                values = set(value.split("|") if how == "=~" else [value])
                assert values <= known.get(label, values), f"{name}: {label} is never {value}"

    def series(self) -> Iterator[str]:
        for test in yaml.safe_load(self.tests.read_text())["tests"]:
            yield from (one["series"] for one in test["input_series"])


ALL = [Rules("streamer", 12, of_drivers()), Rules("health", 6, of_the_health_app())]
each_file = pytest.mark.parametrize("rules", ALL, ids=lambda rules: rules.name)


@each_file
def test_each_says_what_to_do(rules: Rules) -> None:
    """A severity, a line, a description and a runbook; the commands in these exist."""
    assert len(rules.alerts) == rules.count
    for alert in rules.alerts.values():
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description", "runbook", "runbook_url"}
        for command in _COMMAND.findall(" ".join(alert["annotations"].values())):
            found: Any = cli
            for word in command.split():
                if not isinstance(found, click.Group):
                    break
                found = found.get_command(click.Context(found), word)
                assert found is not None, f"there is no `streamer {command}`"


def test_drift_wakes_nobody() -> None:
    assert ALL[1].alerts["StreamerModelDrifts"]["labels"]["severity"] == "warning"


@pytest.mark.parametrize(("rules", "name"), [(rules, name) for rules in ALL for name in rules.alerts])
def test_what_an_alert_looks_at_exists(rules: Rules, name: str) -> None:
    rules.check(rules.alerts[name]["expr"])
    rules.check(" ".join(rules.alerts[name]["annotations"].values()))


@each_file
def test_what_the_tests_feed_exists(rules: Rules) -> None:
    """A test of an alert on a series that no process has proves nothing; and each alert has a test."""
    for one in rules.series():
        rules.check(one)
    assert rules.alerts.keys() <= set(re.findall(r'alertname="(\w+)"', rules.tests.read_text()))


def run_promtool(tests: Path) -> subprocess.CompletedProcess[str]:
    return run_program(program("promtool"), "test", "rules", tests.name, cwd=tests.parent)


@pytest.mark.case(97)
@each_file
def test_they_fire_when_they_should(rules: Rules) -> None:
    """And end, and stay silent over what is healthy, as Prometheus itself judges."""
    ran = run_promtool(rules.tests)
    assert ran.returncode == 0, ran.stdout + ran.stderr


NEVER_FIRES = {"expr": "vector(1) > 2"}
NEVER_ENDS = {"keep_firing_for": "30d"}


def silently_passed(rules: Rules, folder: Path, fault: dict[str, str]) -> set[str]:
    """The alerts whose tests pass although each of them has this fault."""
    changed = yaml.safe_load(rules.rules.read_text())
    for group in changed["groups"]:
        for alert in group["rules"]:
            alert.update(fault)
    (folder / rules.rules.name).write_text(yaml.safe_dump(changed))
    shutil.copy(rules.tests, folder)
    said = run_promtool(folder / rules.tests.name).stderr
    return {name for name in rules.alerts if name not in said}


@pytest.mark.parametrize("fault", [NEVER_FIRES, NEVER_ENDS], ids=["never fires", "never ends"])
@each_file
def test_faults_of_alerts_are_found(tmp_path: Path, rules: Rules, fault: dict[str, str]) -> None:
    """The tests of the alerts can fail, for each of them: when it never fires, and when it never ends."""
    assert not silently_passed(rules, tmp_path, fault)
