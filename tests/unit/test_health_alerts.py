"""The alerts about model health in deploy/prometheus: they speak of what there is, and fire when they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streamer.cli import cli
from streamer.telemetry.health_metrics import FAILURES, HealthMetrics
from tests.unit.test_alerts import FOLDER, NEVER_ENDS, NEVER_FIRES, run_promtool, silently_passed

RULES, TESTS = FOLDER / "health.rules.yml", FOLDER / "health.test.yml"
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
NAMES = [alert["alert"] for alert in ALERTS]
# What Prometheus adds, and what the labels of an app's rules may be.
OF_THE_SCRAPE = {"instance", "job"}
KNOWN = {"severity": {"page", "ticket"}, "what": set(FAILURES)}

_SELECTOR = re.compile(r"\b(streamer_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=~|!=|=)"([^"]*)"')
_COMMAND = re.compile(r"`streamer ([a-z ]+)[^`]*`")


def labels_of() -> dict[str, set[str]]:
    """The metrics of the app as they are scraped, with their labels."""
    collectors = HealthMetrics().registry._names_to_collectors
    return {name: set(getattr(one, "_labelnames", ())) for name, one in collectors.items()}


LABELS = labels_of()


def check(expression: str) -> None:
    for name, matchers in _SELECTOR.findall(expression):
        assert name in LABELS, f"{name} is no metric: {expression}"
        for label, value in _MATCHER.findall(matchers):
            assert label in LABELS[name] | OF_THE_SCRAPE, f"{name} has no label {label}"
            assert value in KNOWN.get(label, {value}), f"{name}: {label} is never {value}"


def test_each_says_what_to_do() -> None:
    """A severity, a line, a description and a runbook; the commands in these exist. Drift wakes nobody."""
    assert len(NAMES) == len(set(NAMES)) == 6
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description", "runbook", "runbook_url"}
        for command in _COMMAND.findall(" ".join(alert["annotations"].values())):
            found: Any = cli
            for word in command.split():
                if isinstance(found, click.Group):
                    found = found.get_command(click.Context(found), word)
                    assert found is not None, f"there is no `streamer {command}`"
    assert ALERTS[NAMES.index("StreamerModelDrifts")]["labels"]["severity"] == "warning"


@pytest.mark.parametrize("name", NAMES)
def test_what_an_alert_looks_at_exists(name: str) -> None:
    alert = ALERTS[NAMES.index(name)]
    check(alert["expr"])
    check(" ".join(alert["annotations"].values()))


def test_what_the_tests_feed_exists() -> None:
    """And each alert has a test."""
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for one in test["input_series"]:
            check(one["series"])
    assert set(NAMES) <= set(re.findall(r'alertname="(\w+)"', TESTS.read_text()))


def test_they_fire_when_they_should() -> None:
    """And end, and stay silent over a healthy app, as Prometheus itself judges."""
    ran = run_promtool(TESTS)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("fault", [NEVER_FIRES, NEVER_ENDS], ids=["never fires", "never ends"])
def test_faults_of_alerts_are_found(tmp_path: Path, fault: dict[str, str]) -> None:
    assert not silently_passed(RULES, TESTS, tmp_path, fault)
