"""The chart as Helm renders it: Kubernetes takes it, KEDA, Strimzi and the Prometheus operator do, and streamer reads
what it is given. `make chart` gets the tools and the definitions, and runs these tests; without them they are skipped.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from streamer.cli import cli
from streamer.config.load import load
from streamer.kafka.topics import OPERATOR_TOPICS, TopicInfo, demands

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/streamer"
TOOLS = Path(sys.executable).parent
DEFINITIONS = TOOLS.parent / "chart"
EXAMPLES = {path.name.removesuffix("-values.yaml"): path for path in sorted(CHART.glob("ci/*-values.yaml"))}
# The oldest Kubernetes that Chart.yaml takes; an image as a volume came later.
KUBERNETES = {"minimal": ["1.27", "1.37"], "at-least-once": ["1.27", "1.37"], "everything": ["1.30", "1.37"]}
RELEASE, NAMESPACE = "reviews", "prod"

Document = dict[str, Any]

pytestmark = pytest.mark.skipif(not (DEFINITIONS / ".ready").exists(), reason="`make chart` was not run here")


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOOLS / "helm", *arguments], capture_output=True, text=True, timeout=60)


def template(example: str, *arguments: str, kubernetes: str = "1.37.0") -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = ["template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", kubernetes]
    return helm(*command, "--values", EXAMPLES[example], *arguments)


def render(example: str, *arguments: str, kubernetes: str = "1.37.0") -> list[Document]:
    ran = template(example, *arguments, kubernetes=kubernetes)
    assert ran.returncode == 0, ran.stderr
    return [document for document in yaml.safe_load_all(ran.stdout) if document]


def one(documents: list[Document], kind: str, name: str = RELEASE) -> Document:
    (found,) = [each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod(documents: list[Document], kind: str = "StatefulSet", name: str = RELEASE) -> Document:
    found: Document = one(documents, kind, name)["spec"]["template"]["spec"]
    return found


def environment(container: Document) -> dict[str, str]:
    """As a container of the pod reviews-0 gets it; a Secret's values stand for themselves."""
    values = {each["name"]: each.get("value", "from-a-secret") for each in container["env"]}
    assert len(values) == len(container["env"]), "a variable is there twice"
    return {name: value.replace("$(POD_NAME)", f"{RELEASE}-0") for name, value in values.items()}


def closed(schema: Any) -> Any:
    """A definition's schema as JSON Schema that refuses what it does not name, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if isinstance(schema, str):
        return schema.replace("^(?i)", "(?i)^")  # Go takes flags anywhere
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {name: closed(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="module")
def definitions() -> dict[tuple[str, str], Any]:
    """By apiVersion and kind."""
    found = {}
    for path in [*DEFINITIONS.glob("*.yaml"), *(ROOT / "tests/strimzi").glob("*.yaml")]:
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def test_helm_finds_nothing_to_say() -> None:
    """`helm lint` with each example."""
    for path in EXAMPLES.values():
        ran = helm("lint", CHART, "--strict", "--kube-version", "1.37.0", "--values", path)
        assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_object_is_one_that_its_controller_takes(example: str, definitions: dict[tuple[str, str], Any]) -> None:
    """Kubernetes' own by its schemas of the oldest and the newest version, the rest by their definitions."""
    own = 0
    for version in KUBERNETES.get(example, ["1.33", "1.37"]):
        for document in render(example, kubernetes=f"{version}.0"):
            kind = document["apiVersion"], document["kind"]
            if kind in definitions:
                jsonschema.validate(document, definitions[kind])
            else:
                own += 1
                kubernetes_validate.validate(document, version, strict=True)
            labels = document["metadata"]["labels"].values()
            assert all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", label) for label in labels)
    assert own >= 10


def test_a_misspelt_field_would_be_found(definitions: dict[tuple[str, str], Any]) -> None:
    """In each kind that is not Kubernetes' own."""
    kinds = set()
    for document in render("everything"):
        kind = document["apiVersion"], document["kind"]
        if kind in definitions:
            kinds.add(kind[1])
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(document | {"spec": {**document["spec"], "tigers": []}}, definitions[kind])
    of_keda = {"ScaledObject", "TriggerAuthentication"}
    assert kinds == of_keda | {"ServiceMonitor", "PrometheusRule", "KafkaTopic", "KafkaUser"}


@pytest.mark.parametrize("example", ["everything", "at-least-once"])
def test_keda_has_the_fields_of_each_trigger(example: str) -> None:
    """Its definition would take any, and leave out what it does not know; an external scaler gets them all."""
    scalers = json.loads((DEFINITIONS / "scalers-schema.json").read_text())["scalers"]
    known = {scaler["type"]: {field["name"]: field for field in scaler["parameters"]} for scaler in scalers}
    own = {"external-push": {"pipeline", "drain_s", "max_records"}}
    triggers = one(render(example), "ScaledObject")["spec"]["triggers"]
    for trigger in triggers:
        fields, metadata = known[trigger["type"]], trigger["metadata"]
        assert set(metadata) <= set(fields) | own.get(trigger["type"], set())
        needed = {name for name, field in fields.items() if not field.get("optional") and "default" not in field}
        assert needed <= set(metadata)
        for name in set(metadata) & set(fields):
            assert metadata[name] in fields[name].get("allowedValue", [metadata[name]])
    expected = {"everything": ["external-push"], "at-least-once": ["kafka", "kafka", "prometheus"]}
    assert [trigger["type"] for trigger in triggers] == expected[example]


def test_keda_and_the_scaler_know_each_other_by_certificates() -> None:
    """KEDA is told what to trust and to show, by the names that it has for that; the probe speaks no TLS."""
    documents = render("everything")
    name = f"{RELEASE}-scaler"
    (trigger,) = one(documents, "ScaledObject")["spec"]["triggers"]
    assert (trigger["metadata"]["enableTLS"], trigger["authenticationRef"]) == ("true", {"name": name})
    assert trigger["metadata"]["scalerAddress"] == f"{name}.{NAMESPACE}.svc:9480"
    targets = one(documents, "TriggerAuthentication", name)["spec"]["secretTargetRef"]
    assert {each["parameter"]: (each["name"], each["key"]) for each in targets} == {
        "caCert": ("sentiment-scaler", "ca.crt"),
        "tlsClientCert": ("keda-client", "tls.crt"),
        "tlsClientKey": ("keda-client", "tls.key"),
    }
    scalers = json.loads((DEFINITIONS / "scalers-schema.json").read_text())["scalers"]
    (known,) = [each["parameters"] for each in scalers if each["type"] == "external-push"]
    secret = {field["name"] for field in known if field.get("triggerAuthenticationVariableReadable")}
    assert {each["parameter"] for each in targets} == secret
    spec = pod(documents, "Deployment", name)
    (container,) = spec["containers"]
    files = dict(pairwise(container["args"]))
    assert [files[f"--{option}"] for option in ("tls-cert", "tls-key", "client-ca")] == [
        f"/run/tls/{file}" for file in ("tls.crt", "tls.key", "ca.crt")
    ]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "tls"]
    assert volume["secret"]["secretName"] == "sentiment-scaler"
    assert "/run/tls" in [each["mountPath"] for each in container["volumeMounts"]]
    assert "tcpSocket" in container["readinessProbe"]
    plain = ("--set", "scaler.tls.secretName=,scaler.tls.clientSecretName=")
    documents = render("everything", *plain)
    assert "grpc" in pod(documents, "Deployment", name)["containers"][0]["readinessProbe"]
    assert "TriggerAuthentication" not in {each["kind"] for each in documents}
    assert "tls" not in json.dumps(one(documents, "ScaledObject")).lower()


def test_a_way_in_leads_to_what_is_there() -> None:
    """Over TLS only, through the network policy, to a console that knows the name; none unless it is asked for."""
    documents = render("everything")
    hosts = {"console": "streamer.example.com", "health": "health.example.com"}
    for component, host in hosts.items():
        spec = one(documents, "Ingress", f"{RELEASE}-{component}")["spec"]
        assert spec["tls"] == [{"hosts": [host], "secretName": "streamer-example-com"}]
        (rule,) = spec["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        service = one(documents, "Service", backend["name"])["spec"]
        assert backend["port"]["name"] in [port["name"] for port in service["ports"]]
        assert rule["host"] == host
        (way_in,) = one(documents, "NetworkPolicy", f"{RELEASE}-{component}")["spec"]["ingress"]
        assert "ingress-nginx" in json.dumps(way_in["from"])
    arguments = pod(documents, "Deployment", f"{RELEASE}-console")["containers"][0]["args"]
    assert arguments.count("streamer.example.com") == 1
    nobody = ("--set", "ingress.consoleHost=,ingress.healthHost=")
    assert "Ingress" not in {each["kind"] for each in render("everything", *nobody)}


def test_kube_score_finds_nothing_critical() -> None:
    """Tags are versions, so that a pod need not ask the registry for each start."""
    for example in EXAMPLES:
        command: list[str | Path] = [TOOLS / "kube-score", "score", "-", "--kubernetes-version", "v1.30"]
        command += ["--ignore-test", "container-image-pull-policy"]
        ran = subprocess.run(command, input=template(example).stdout, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_streamer_takes_what_its_containers_are_given(example: str, tmp_path: Path) -> None:
    """The configuration with the variables over it, and commands and options that exist."""
    documents = render(example)
    path = tmp_path / "streamer.toml"
    path.write_text(one(documents, "ConfigMap")["data"]["streamer.toml"])
    kinds = ("StatefulSet", "Deployment")
    containers = [each["spec"]["template"]["spec"]["containers"][0] for each in documents if each["kind"] in kinds]
    assert len(containers) == (4 if example == "everything" else 1)
    for container in containers:
        environ = environment(container)
        config = load(path, environ=environ)
        arguments = list(map(str, container["args"]))
        command: click.Command | None = cli
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), arguments.pop(0))
        assert command is not None, container["args"]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= options
        if command.name == "run" and "--pipeline" in arguments:
            pipeline = config.pipelines[arguments[arguments.index("--pipeline") + 1]]
            assert pipeline.slot == ("eu." if example == "everything" else "") + f"{RELEASE}-0"
            assert pipeline.static_membership == (pipeline.guarantee == "exactly_once")
            assert config.telemetry.http == "0.0.0.0:9464"


def test_a_pod_has_time_to_stop_and_to_load() -> None:
    """From stop_deadline_s and load_s of the configuration."""
    spec = pod(render("minimal"))
    assert spec["terminationGracePeriodSeconds"] == 41 + 15
    probe = spec["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 900
    set_ = one(render("minimal"), "StatefulSet")["spec"]
    assert set_["podManagementPolicy"] == "Parallel"
    assert set_["replicas"] == 1


def test_what_scales_by_itself_has_no_number_of_replicas() -> None:
    """An upgrade would set it back to that."""
    assert "replicas" not in one(render("everything"), "StatefulSet")["spec"]
    assert "replicas" not in one(render("at-least-once"), "Deployment")["spec"]


def test_a_gpu_is_asked_for_by_its_name() -> None:
    """As a limit and a request, with the nodes that have it; none without gpu.enabled."""
    spec = pod(render("gpu"))
    resources = spec["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/mig-1g.10gb"] == resources["requests"]["nvidia.com/mig-1g.10gb"] == 2
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert spec["containers"][0]["image"].endswith("-cuda")
    assert "gpu" not in template("minimal").stdout


def test_the_console_asks_each_pod() -> None:
    """By the names that the headless Service gives them, which its own network policy lets through."""
    documents = render("minimal", "--set", "console.enabled=true,console.tokenSecret=token,replicas=2")
    arguments = pod(documents, "Deployment", f"{RELEASE}-console")["containers"][0]["args"]
    urls = [url for option, url in pairwise(arguments) if option == "--metrics"]
    assert urls == [f"http://{RELEASE}-{n}.{RELEASE}.{NAMESPACE}.svc:9464/metrics" for n in range(2)]
    assert one(documents, "StatefulSet")["spec"]["serviceName"] == RELEASE
    assert one(documents, "Service")["spec"]["clusterIP"] == "None"
    rules = one(documents, "NetworkPolicy", f"{RELEASE}-console")["spec"]["egress"]
    assert {"port": 9464} in [port for rule in rules for port in rule["ports"]]


def test_each_member_can_be_asked(tmp_path: Path) -> None:
    """By Prometheus and the console, through the network policy: those of a pod have ports one after the other."""
    values = EXAMPLES["everything"].read_text()
    several = tmp_path / "values.yaml"
    several.write_text(values.replace("[pipelines.sentiment]\n", "[pipelines.sentiment]\n  members = 3\n"))
    fixed = ("--set", "autoscaling.enabled=false", "--set", "replicas=2")
    documents = render("everything", "--values", str(several), *fixed)
    ports = {port["name"]: port["port"] for port in one(documents, "Service")["spec"]["ports"]}
    assert ports == {"http": 9464, "http-2": 9465, "http-3": 9466}
    asked = [each["port"] for each in one(documents, "ServiceMonitor")["spec"]["endpoints"]]
    assert asked == list(ports)
    (way_in,) = one(documents, "NetworkPolicy")["spec"]["ingress"]
    assert way_in["ports"] == [{"port": 9464, "endPort": 9466}]
    console = pod(documents, "Deployment", f"{RELEASE}-console")["containers"][0]["args"]
    assert sum(f"{RELEASE}-1.{RELEASE}.{NAMESPACE}.svc:946" in argument for argument in console) == 3


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("rediss://user:p%40ss@redis/0", [6379]),
        ("unix:///run/redis.sock", []),
        ("redis+sentinel://a:26380,b/main/0", [26380, 26379, 6379]),
        ("redis+cluster://user:secret@a:7000,b:7001", [7000, 7001]),
    ],
)
def test_redis_can_be_reached_in_each_form_of_its_address(url: str, ports: list[int]) -> None:
    given = json.dumps([{"name": "STREAMER_CACHE__URL", "value": url}])
    documents = render("minimal", "--set-json", f"env={given}", "--set", "cacheKey.secret=key")
    rules = one(documents, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in rules[1]["ports"]] == [9092, 9093, *ports]


def test_the_alerts_are_the_shipped_ones() -> None:
    """Those on the health app with it; that no driver is there is no fault where replicas go down to none."""
    rules = [each for each in render("everything") if each["kind"] == "PrometheusRule"]
    names = ("health", "streamer")
    shipped = {
        name: yaml.safe_load((ROOT / f"deploy/prometheus/{name}.rules.yml").read_text())["groups"] for name in names
    }
    assert {each["metadata"]["name"].rpartition("-")[2]: each["spec"]["groups"] for each in rules} == shipped
    (scaled,) = [each for each in render("at-least-once") if each["kind"] == "PrometheusRule"]
    left = {rule["alert"] for rule in scaled["spec"]["groups"][0]["rules"]}
    assert {rule["alert"] for rule in shipped["streamer"][0]["rules"]} - left == {"StreamerDriverAbsent"}


def test_strimzi_makes_what_the_pipeline_asks_of_its_topics(tmp_path: Path) -> None:
    """Each topic that `streamer topics check` looks at, as it wants it, and the right to use it for the pipeline or the
    operators; the transactional ids are the slots'."""
    documents = render("everything")
    path = tmp_path / "streamer.toml"
    path.write_text(one(documents, "ConfigMap")["data"]["streamer.toml"])
    config = load(path)
    made = {each["spec"]["topicName"]: each["spec"] for each in documents if each["kind"] == "KafkaTopic"}
    users = {
        name: {
            (acl["resource"]["type"], acl["resource"]["name"], acl["resource"]["patternType"]): acl["operations"]
            for acl in one(documents, "KafkaUser", f"{RELEASE}-{name}")["spec"]["authorization"]["acls"]
        }
        for name in ("run", "ops", "health")
    }
    reviews = TopicInfo("reviews", 12, 3, 1_048_588, "delete", None)
    for topic, demand in demands(config, config.pipelines, {"reviews": reviews}).items():
        spec = made[topic]
        settings = spec.get("config", {})
        assert spec.get("partitions", 1) >= demand.partitions
        assert int(settings.get("max.message.bytes", 0)) >= demand.max_message_bytes
        assert settings.get("cleanup.policy", "") == demand.cleanup_policy
        user = users["ops" if topic in OPERATOR_TOPICS else "run"]
        assert demand.operation in user["topic", topic, "literal"]
    assert users["run"]["group", "streamer.sentiment", "literal"] == ["Read", "Describe"]
    assert "Write" in users["run"]["transactionalId", "streamer.sentiment.", "prefix"]
    assert users["health"]["topic", "streamer.health", "literal"] == ["Read", "Write", "Create", "Describe"]


@pytest.mark.parametrize(
    ("example", "arguments", "message"),
    [
        ("minimal", "--set config=", "config: give streamer.toml"),
        ("minimal", "--set config=nonsense", "config: this is no TOML"),
        ("minimal", "--set image.repository=", "image.repository: name the registry"),
        ("minimal", "--set pipeline=other", "config has no pipeline other, only: sentiment"),
        (
            "minimal",
            "--set env[0].name=STREAMER_KAFKA__BOOTSTRAP_SERVERS,env[0].value=localhost:9092",
            "localhost:9092 is each pod itself",
        ),
        ("minimal", "--set kind=Deployment", "which can't end the transaction"),
        ("minimal", "--set replica=3", "replica"),
        ("minimal", "--set replicas=3,inputPartitions=2", "there can't be 3, since the input has 2 partitions"),
        (
            "minimal",
            "--set env[0].name=STREAMER_CACHE__URL,env[0].value=redis://r",
            "cacheKey.secret: there is a cache",
        ),
        ("minimal", "--set autoscaling.enabled=true", "inputPartitions: give the number"),
        ("minimal", "--set console.enabled=true", "console.tokenSecret"),
        ("minimal", "--set ingress.healthHost=h.example", "ingress.healthHost: there is nothing behind it"),
        ("everything", "--set console.trustProxy=null", "console.trustProxy: name the networks"),
        ("everything", "--set scaler.tls.secretName=", "give scaler.tls.secretName, too"),
        ("at-least-once", "--set pipeline=", "config has 2 pipelines (other, summaries-en): name the one"),
        ("at-least-once", "--set autoscaling.minReplicas=13", "autoscaling.minReplicas: it is more than"),
    ],
)
def test_what_can_not_be_done_is_refused(example: str, arguments: str, message: str) -> None:
    """By the value's name, and how to fix it."""
    ran = template(example, *shlex.split(arguments))
    assert ran.returncode != 0
    assert message in ran.stderr
