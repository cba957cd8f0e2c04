"""The dashboards in deploy/grafana: they show what there is, all of it, and say what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.telemetry.catalogue import METRICS
from streamer.telemetry.dashboards import dashboard
from tests.programs import program, run_program
from tests.unit.test_alerts import of_the_health_app

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
PANELS: list[dict[str, Any]] = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]

_NAME = re.compile(r"\b(streamer_\w+|ALERTS)\b(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)=")
_BY = re.compile(r"\bby \(([^)]*)\)")
_LEGEND = re.compile(r"\{\{(\w+)\}\}")


def labels_of() -> dict[str, set[str]]:
    """Every metric as it is scraped, with its labels."""
    found = {name: labels for name, (labels, _) in of_the_health_app().items()}
    for metric in METRICS:
        own = {"pipeline", "instance", *metric.labels}
        if metric.kind == "histogram":
            found |= {metric.name + suffix: own | {"le"} for suffix in ("_bucket", "_count", "_sum")}
        else:
            found[metric.name] = own
    return {**found, "ALERTS": {"alertname", "severity", "pipeline", "alertstate"}}


KNOWN = labels_of()


def test_the_file_is_what_the_catalogue_says() -> None:
    """`python -m streamer.telemetry.dashboards > deploy/grafana/dashboards/streamer.json` after a change."""
    assert json.loads((FOLDER / "dashboards" / "streamer.json").read_text()) == dashboard()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["expr"][:60])
def test_what_a_panel_asks_for_exists(target: dict[str, Any]) -> None:
    """Each metric, each label that it is selected and summed by, and each label of its legend."""
    names = _NAME.findall(target["expr"])
    assert names
    kept = {label.strip() for labels in _BY.findall(target["expr"]) for label in labels.split(",")}
    for name, matchers in names:
        assert name in KNOWN, f"{name} is no metric"
        assert {*_LABEL.findall(matchers), *kept} <= KNOWN[name], name
    assert {*_LEGEND.findall(target["legendFormat"])} <= kept


def test_each_metric_has_a_panel() -> None:
    shown = {name for target in TARGETS for name, _ in _NAME.findall(target["expr"])}
    for metric in METRICS:
        assert any(name in shown for name in (metric.name, f"{metric.name}_bucket", f"{metric.name}_count")), (
            metric.name
        )


def test_prometheus_can_read_each_question(tmp_path: Path) -> None:
    questions = (target["expr"].replace("$__rate_interval", "5m").replace("$pipeline", ".*") for target in TARGETS)
    rules = [{"record": f"question:{number}", "expr": question} for number, question in enumerate(questions)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    ran = run_program(program("promtool"), "check", "rules", str(tmp_path / "rules.yml"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(TARGETS)} rules found" in ran.stdout


def test_it_fits_every_grafana() -> None:
    """No id of the Grafana that it was made in, a source that can be chosen, a place of its own for each panel, and in
    each panel what to do."""
    made = dashboard()
    assert "id" not in made and made["uid"]
    assert {variable["name"] for variable in made["templating"]["list"]} >= {"datasource", "pipeline", "runbook"}
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert "id" not in panel
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {
            "${datasource}"
        }
        assert "**When it moves:** " in panel["description"], panel["title"]
        for target in panel["targets"]:
            assert ("rate(" in target["expr"]) == ("$__rate_interval" in target["expr"])


def test_a_new_metric_gets_a_panel_by_itself() -> None:
    """Those that no row names are in the last one."""
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == ["Golden signals", "Lag and drain", "Model", "Cache", "Dead letters", "Writing", "Health", "More"]
    assert len({(panel["title"]) for panel in PANELS}) == len(PANELS)
