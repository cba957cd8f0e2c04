"""What Prometheus, Alertmanager and the OpenTelemetry Collector are told in deploy/: they take it, and it fits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.config.fields import TelemetryConfig
from tests.programs import program, run_program

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"
COLLECTOR = ROOT / "deploy/otel/collector.yaml"
BUILDER = ROOT / "deploy/otel/builder-config.yaml"
PAGE = ROOT / "docs/monitoring.md"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules() -> list[dict[str, Any]]:
    files = [read(PROMETHEUS.with_name(name)) for name in read(PROMETHEUS)["rule_files"]]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def test_prometheus_loads_all_rules_and_scrapes_what_they_ask_for() -> None:
    """An alert on a job that nobody scrapes never fires."""
    checked = run_program(program("promtool"), "check", "config", PROMETHEUS.name, cwd=PROMETHEUS.parent)
    assert checked.returncode == 0, checked.stderr
    shipped = {path.name for path in PROMETHEUS.parent.glob("*.rules.yml")}
    assert set(read(PROMETHEUS)["rule_files"]) == shipped
    asked = set(re.findall(r'job="([^"]+)"', " ".join(rule["expr"] for rule in rules())))
    assert asked <= {job["job_name"] for job in read(PROMETHEUS)["scrape_configs"]}


def with_examples() -> str:
    """Alertmanager's file with its examples of receivers in force."""
    head, receivers = ALERTMANAGER.read_text().split("\nreceivers:\n")
    return f"{head}\nreceivers:\n{receivers.replace('    # ', '    ')}"


def test_alertmanager_takes_it_as_it_is_and_with_its_examples(tmp_path: Path) -> None:
    filled_in = tmp_path / "alertmanager.yml"
    filled_in.write_text(with_examples())
    assert {"webhook_configs", "email_configs"} < {key for one in read(filled_in)["receivers"] for key in one}
    for file in (ALERTMANAGER, filled_in):
        checked = run_program(program("amtool"), "check-config", str(file))
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_every_severity_reaches_its_receiver(severity: str) -> None:
    """And those that are held back, and those that hold them back, do exist."""
    command = ("config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")
    assert (
        run_program(program("amtool"), *command).stdout.strip() == {"critical": "page", "warning": "ticket"}[severity]
    )
    assert severity in {rule["labels"]["severity"] for rule in rules()}
    (inhibited,) = read(ALERTMANAGER)["inhibit_rules"]
    (target,) = inhibited["target_matchers"]
    assert set(re.findall(r"Streamer\w+", target)) <= {rule["alert"] for rule in rules()}


def test_the_collector_reads_our_topic_and_says_what_may_be_set() -> None:
    """The comment has a line for each variable, with its default."""
    text = COLLECTOR.read_text()
    used = dict(re.findall(r"\$\{env:(\w+):-([^}]*)\}", text))
    assert used["SPANS_TOPIC"] == TelemetryConfig().spans
    told = dict[str, str]()
    for names, defaults in re.findall(r"^#   ([A-Z_, ]+?)  .*  (\S.*)$", text, re.MULTILINE):
        told |= zip(names.split(", "), defaults.split(", "), strict=True)
    assert told == used
    assert text.count("${") == len(used)


def test_the_collector_is_built_of_what_its_file_uses() -> None:
    """Each component that is defined is used, and of each kind as many are compiled in."""
    config, builder = read(COLLECTOR), read(BUILDER)
    for kind in ("receivers", "processors", "exporters"):
        assert list(config[kind]) == config["service"]["pipelines"]["traces"][kind]
        assert len(config[kind]) == len(builder[kind])
    assert list(config["extensions"]) == config["service"]["extensions"]
    assert len(builder["extensions"]) == len(config["extensions"])


@pytest.mark.parametrize("additions", ["", "security"])
def test_the_collector_takes_it(additions: str, tmp_path: Path) -> None:
    """And with what docs/monitoring.md adds for TLS and SASL."""
    command = [program("otelcol", "far-end"), "validate", f"--config={COLLECTOR}"]
    if additions:
        (example,) = re.findall(r"```yaml\n(receivers:.*?)```", PAGE.read_text(), re.DOTALL)
        (tmp_path / "more.yaml").write_text(example)
        command.append(f"--config={tmp_path / 'more.yaml'}")
    checked = run_program(*command, KAFKA_PASSWORD="secret")
    assert checked.returncode == 0, checked.stderr
