"""docker-compose.yml: what an engine is told to start fits together, and is safe to start."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streamer.config.fields import TelemetryConfig
from streamer.config.load import load
from streamer.inference.models.presence import model_problem
from streamer.telemetry.dashboards import dashboard

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TRIED_WITH = {"kafka", "redis"}  # what is there without a profile
ONCE = {"secrets", "topics"}
CONFIG = load(ROOT / "deploy" / "compose" / "streamer.toml")


def mounts(name: str) -> dict[str, tuple[str, str]]:
    """What a service has at each place: where it comes from, and how."""
    found = {}
    for mount in SERVICES[name].get("volumes", []):
        source, target, *mode = mount.split(":")
        found[target] = (source, *(mode or ["rw"]))
    return found


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_it_is_what_the_specification_says() -> None:
    """The schema that the wheel of check-jsonschema brings; its program can't run beside our release of click."""
    schema = distribution("check-jsonschema").locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    validator = jsonschema.Draft202012Validator(json.loads(Path(str(schema)).read_text()))
    assert not [error.message for error in validator.iter_errors(COMPOSE)]


def test_yaml_is_written_one_way() -> None:
    """`yamllint .`, for all that is deployed."""
    tool = Path(sys.executable).with_name("yamllint")
    ran = subprocess.run([tool, "--strict", "docker-compose.yml", "deploy"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("profiles", [[], ["all"], ["gpu", "watch"], ["cpu"]], ids=",".join)
def test_compose_takes_each_set(profiles: list[str]) -> None:
    """Whoever is waited for is in the same set, as Docker's own program says where it is."""
    there = {
        name for name, one in SERVICES.items() if {*one.get("profiles", profiles)} & {*profiles} or name in TRIED_WITH
    }
    for name in there:
        assert {*SERVICES[name].get("depends_on", {})} <= there, name
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        named = [f"--profile={profile}" for profile in profiles]
        ran = subprocess.run([docker, "compose", f"--file={FILE}", *named, "config", "--services"], capture_output=True)
        assert {*ran.stdout.decode().split()} == there, ran.stderr


def test_without_a_profile_there_is_what_streamer_local_starts() -> None:
    assert {name for name, one in SERVICES.items() if "profiles" not in one} == TRIED_WITH


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_closed(name: str) -> None:
    """An image of one version, ports on the loopback address alone, a limit of memory, and a question after its health
    unless it ends by itself; ours may write nowhere but where they must."""
    service = SERVICES[name]
    _, _, tag = service["image"].partition(":")
    assert tag and tag != "latest"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "memory" in service["deploy"]["resources"]["limits"]
    if "build" in service:
        target = service["build"]["target"]
        dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
        assert re.search(rf"^FROM \S+ AS {target}$", dockerfile, re.MULTILINE)
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "/tmp" in service["tmpfs"]
    else:
        assert re.match(r"v?\d+\.\d+\.\d+$", tag), f"{service['image']} is no version"
    asked = "healthcheck" in service or service.get("build", {}).get("target") in ("cpu", "cuda")
    assert asked != (name in ONCE or name == "otel-collector")


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_is_given_exists(name: str) -> None:
    for source, mode in mounts(name).values():
        if source.startswith("."):
            assert (ROOT / source).exists(), f"{source} is not there"
            assert mode == "ro"
        else:
            assert source in COMPOSE["volumes"]


def test_there_is_no_password_that_a_stranger_knows() -> None:
    """Those that are needed are made at the first start, and named by file."""
    for name, service in SERVICES.items():
        options = (str(word).removeprefix("--").partition("=") for word in service.get("command", []))
        given = {**service.get("environment", {}), **{option: value for option, _, value in options}}
        for key, value in given.items():
            if re.search("(?i)password|token|secret|_key", key):
                assert re.search("(?i)[_-]file$", key) and str(value).startswith("/run/made/"), f"{name}: {key}"
    text = FILE.read_text()
    made = {name for names in re.findall(r"for name in ([\w -]+);", text) for name in names.split()}
    assert made == set(re.findall(r"/run/made/([\w-]+)", text))
    for name in ("console", "grafana"):
        assert mounts(name)["/run/made"] == (mounts("secrets")["/var/lib/streamer"][0], "ro")


def test_addresses_and_topics_are_those_of_the_configuration() -> None:
    """streamer's own file, what is scraped, what is asked for its health, and what the collector reads."""
    kafka = SERVICES["kafka"]["environment"]
    assert CONFIG.kafka.bootstrap_servers in kafka["KAFKA_ADVERTISED_LISTENERS"]
    collector = SERVICES["otel-collector"]["environment"]
    assert collector["KAFKA_BROKERS"] == CONFIG.kafka.bootstrap_servers
    assert collector["SPANS_TOPIC"] == CONFIG.telemetry.spans
    assert set(collector) <= set(re.findall(r"env:(\w+)", (ROOT / "deploy/otel/collector.yaml").read_text()))
    assert CONFIG.cache.url.startswith("redis://redis:")
    targets = {
        target: job["job_name"]
        for job in read("deploy/prometheus/prometheus.yml")["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    assert {target.partition(":")[0] for target in targets} <= {*SERVICES}
    assert targets[f"streamer:{port_of(CONFIG.telemetry.http)}"] == "streamer"
    assert targets[f"health:{port_of(CONFIG.health.http)}"] == "streamer-health"
    # The image of the driver asks at the address that is the default.
    assert port_of(CONFIG.telemetry.http) == port_of(TelemetryConfig().http)
    assert f"127.0.0.1:{port_of(CONFIG.health.http)}" in str(SERVICES["health"]["healthcheck"])
    assert f"--metrics=http://streamer:{port_of(CONFIG.telemetry.http)}/metrics" in SERVICES["console"]["command"]
    assert "streamer" in SERVICES["streamer-gpu"]["networks"]["default"]["aliases"]
    for pipeline in CONFIG.pipelines.values():
        assert not model_problem(pipeline.model)


def test_the_dashboard_and_the_alerts_lead_to_the_runbook() -> None:
    """Prometheus shows it under /user/, in a folder of the name that the alerts ask for."""
    (assets,) = [
        option.partition("=")[2]
        for option in SERVICES["prometheus"]["command"]
        if option.startswith("--web.user-assets=")
    ]
    assert mounts("prometheus")[f"{assets}/deploy/RUNBOOK.md"] == ("./deploy/RUNBOOK.md", "ro")
    base = read("deploy/prometheus/prometheus.yml")["global"]["external_labels"]["runbooks"]
    address = SERVICES["prometheus"]["ports"][0].rpartition(":")[0]
    assert base == f"http://{address}/user/"
    (link,) = [one["query"] for one in dashboard()["templating"]["list"] if one["name"] == "runbook"]
    assert link == f"{base}deploy/RUNBOOK.md"


def test_grafana_finds_its_dashboard_and_its_sources() -> None:
    (provider,) = read("deploy/grafana/provisioning/dashboards/streamer.yml")["providers"]
    folder, mode = mounts("grafana")[provider["options"]["path"]]
    assert mode == "ro"
    (file,) = (ROOT / folder).glob("*.json")
    assert json.loads(file.read_text())["uid"] == dashboard()["uid"]
    for source in read("deploy/grafana/provisioning/datasources/streamer.yml")["datasources"]:
        service, _, port = source["url"].removeprefix("http://").partition(":")
        assert any(one.endswith(f":{port}") for one in SERVICES[service]["ports"])
