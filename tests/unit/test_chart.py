"""The chart in deploy/helm/streamer, as far as it can be read without Helm; `make chart` renders it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streamer import __version__
from streamer.config.fields import KafkaConfig, TelemetryConfig
from streamer.config.health import HealthConfig
from streamer.config.pipeline import PipelineConfig
from streamer.core.deadletters.audit import AUDIT_TOPIC
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.kafka.topics import DEAD_LETTER_HEADROOM_BYTES

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/streamer"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
EXAMPLES = sorted(CHART.glob("ci/*-values.yaml"))


def named(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values that the schema names."""
    for name, inner in schema.get("properties", {}).items():
        if path or name != "global":  # Helm's own
            yield (*path, name)
            yield from named(inner, (*path, name))


def reach(path: tuple[str, ...]) -> bool:
    """Whether values.yaml has it."""
    found: Any = VALUES
    for name in path:
        if name not in found:
            return False
        found = found[name]
    return True


def test_the_schema_is_one_and_holds_the_values() -> None:
    """It refuses a misspelt name on every level, and what `config` has to say."""
    validator = jsonschema.Draft7Validator
    validator.check_schema(SCHEMA)
    for path in (CHART / "values.yaml", *EXAMPLES):
        assert list(validator(SCHEMA).iter_errors(yaml.safe_load(path.read_text()))) == [], path
    for wrong in (
        {"replica": 2},
        {"gpu": {"counts": 1}},
        {"strimzi": {"topics": {"create": ["outputs"]}}},
        {"env": [{"name": "STREAMER_PIPELINES__A__WORKERS", "value": "2"}]},
        {"rollout": {"stopSlackSeconds": 1}},
    ):
        assert list(validator(SCHEMA).iter_errors(VALUES | wrong)), wrong


def test_each_value_has_a_default_and_a_comment() -> None:
    """What the schema names is in values.yaml, but for what is free; what is not plain has a comment before it."""
    free = {"requests", "limits", "claims"}
    roles = ("strimzi", "topics", "config")
    missing = [path for path in named(SCHEMA) if not reach(path) and path[-1] not in free and path[:3] != roles]
    assert missing == []
    plain = {"enabled", "nodeSelector", "tolerations", "replicas", "maxUnavailable", "resources", "podAnnotations"}
    plain |= {"minReplicas", "secretEnv", "requests", "limits"}
    before, bare = "", []
    for line in (CHART / "values.yaml").read_text().splitlines():
        key = re.match(r" *([A-Za-z]+):", line)
        if key and "#" not in before and key[1] not in plain and line.strip() != f"{key[1]}:":
            bare.append(line)
        before = line
    assert [line for line in bare if len(line) - len(line.lstrip()) < 4] == []


@pytest.mark.parametrize("name", ["streamer", "health"])
def test_the_alerts_are_those_of_prometheus_itself(name: str) -> None:
    """The chart has no copy of its own."""
    file = CHART / "files" / f"{name}.rules.yml"
    assert file.resolve() == ROOT / "deploy/prometheus" / file.name


def test_the_version_is_the_packages() -> None:
    """The images' tags follow from it."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_the_defaults_are_the_configurations() -> None:
    """What streamer.toml leaves out is for the chart what it is for streamer."""
    text = (CHART / "templates/_facts.tpl").read_text()
    kinds = {"own": PipelineConfig, "telemetry": TelemetryConfig, "health": HealthConfig, "kafka": KafkaConfig}
    found = re.findall(r'dig "(\w+)" ("[^"]*"|[\d.]+) \$(\w+)', text)
    found += [(field, value, kind) for kind, field, value in re.findall(r'\$(\w+)\.(\w+) \| default ("[^"]+")', text)]
    assert len(found) == 11
    for field, value, kind in found:
        struct = kinds[kind]
        defaults = dict(zip(reversed(struct.__struct_fields__), reversed(struct.__struct_defaults__), strict=False))
        assert json.loads(value) == defaults[field], field
    strimzi = (CHART / "templates/strimzi.yaml").read_text()
    assert f'(list "{STATE_TOPIC}")' in strimzi
    assert f'(list "{AUDIT_TOPIC}")' in strimzi
    assert f"add $strimzi.topics.maxMessageBytes {DEAD_LETTER_HEADROOM_BYTES} " in strimzi
