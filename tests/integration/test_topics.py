"""`streamer topics` on a real cluster: what is missing is created, what is wrong is told with its fix."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streamer.cli import main
from streamer.config.load import Config, KafkaConfig, load
from streamer.errors import ConfigurationError, ExitCode
from streamer.kafka import span_topic
from streamer.kafka.topics import check, connect, create, describe, require
from tests.conftest import Kafka


def configuration(kafka: Kafka, tmp_path: Path, extra: str = "") -> tuple[Config, str, str]:
    """One pipeline on topics of its own: its configuration, the file's path, and the topics' prefix."""
    name = uuid4().hex[:8]
    path = tmp_path / f"{name}.toml"
    path.write_text(
        f"""
[kafka]
bootstrap_servers = "{kafka.bootstrap_servers}"
[telemetry]
spans = "{name}.spans"
reports = "{name}.reports"
[pipelines.p]
task = "t"
model = "builtin:null"
input = "{name}.in"
output = "{name}.out"
{extra}
"""
    )
    return load(path), str(path), name


def make(admin: AdminClient, name: str, partitions: int = 1, **config: str) -> None:
    """Create one topic and wait for it."""
    topics = [NewTopic(name, partitions, config={key.replace("_", "."): value for key, value in config.items()})]
    for future in admin.create_topics(topics).values():
        future.result()


def problems(config: Config, admin: AdminClient) -> dict[str, list[str]]:
    """What `check` finds, by topic."""
    found: dict[str, list[str]] = {}
    for finding in check(admin, config):
        found.setdefault(finding.topic, []).append(finding.problem)
    return found


def test_create_makes_what_check_demands(kafka: Kafka, tmp_path: Path) -> None:
    """After `create` nothing is wrong; a second run changes nothing."""
    config, _, name = configuration(kafka, tmp_path)
    admin = connect(config.kafka)
    make(admin, f"{name}.in", 3, max_message_bytes="200000")
    assert f"{name}.out" in create(admin, config)
    assert problems(config, admin) == {}
    assert create(admin, config) == []
    infos = describe(admin, config.kafka, [f"{name}.out", f"{name}.out.dlq", f"{name}.spans", "streamer.dlq.state"])
    out, letters = infos[f"{name}.out"], infos[f"{name}.out.dlq"]
    assert out is not None
    assert letters is not None
    assert (out.partitions, letters.partitions, letters.max_message_bytes) == (3, 3, 264_000)
    state = infos["streamer.dlq.state"]
    assert state is not None
    assert state.cleanup_policy == "compact"


def test_inputs_are_left_to_their_producers(kafka: Kafka, tmp_path: Path) -> None:
    """A missing input is told, and neither it nor outputs of a guessed size are created."""
    config, _, name = configuration(kafka, tmp_path)
    admin = connect(config.kafka)
    assert set(create(admin, config)) <= {f"{name}.spans", f"{name}.reports"}
    assert problems(config, admin)[f"{name}.in"] == ["does not exist"]
    assert f"{name}.in" in create(admin, config, input_partitions=2)
    assert problems(config, admin) == {}


def test_pipelines_in_a_row_are_created_in_one_go(kafka: Kafka, tmp_path: Path) -> None:
    """The output of one is the input of the next, with the same number of partitions."""
    config, path, name = configuration(kafka, tmp_path)
    overrides = [
        f"pipelines.next.{key}={value}"
        for key, value in {
            "task": "t",
            "model": "builtin:null",
            "input": f"{name}.out",
            "output": f"{name}.end",
        }.items()
    ]
    config = load(path, {}, overrides)
    admin = connect(config.kafka)
    create(admin, config, input_partitions=2)
    assert problems(config, admin) == {}
    assert require(admin, config.kafka, f"{name}.end").partitions == 2


def test_too_few_partitions_and_too_small_a_limit_are_found(kafka: Kafka, tmp_path: Path) -> None:
    """Each finding has the command that fixes it."""
    config, _, name = configuration(kafka, tmp_path)
    admin = connect(config.kafka)
    make(admin, f"{name}.in", 3)
    make(admin, f"{name}.out", 2)
    make(admin, f"{name}.out.dlq", 3, cleanup_policy="compact")
    create(admin, config)
    found = problems(config, admin)
    assert found[f"{name}.out"] == ["2 partitions, 3 are needed (as many as the input has)"]
    limit, policy = found[f"{name}.out.dlq"]
    assert limit.startswith("max.message.bytes is 1048588, 1112588 are needed")
    assert policy == "cleanup.policy is compact, delete is needed"
    fixes = [finding.fix for finding in check(admin, config) if finding.topic.startswith(name)]
    assert all(kafka.bootstrap_servers in fix for fix in fixes)


def test_partitioning_by_key_needs_no_equal_partitions(kafka: Kafka, tmp_path: Path) -> None:
    """The same number is asked only where outcomes go to the same number."""
    config, _, name = configuration(kafka, tmp_path, 'partitioning = "key"')
    admin = connect(config.kafka)
    make(admin, f"{name}.in", 3)
    make(admin, f"{name}.out", 1)
    create(admin, config)
    assert problems(config, admin) == {}


@pytest.mark.case(14)
def test_a_missing_topic_is_named_with_its_cluster(kafka: Kafka, tmp_path: Path) -> None:
    """`require` says which topic, where, and what makes it."""
    config, _, name = configuration(kafka, tmp_path)
    with pytest.raises(ConfigurationError, match=rf"Kafka at {kafka.bootstrap_servers} has no topic {name}.in"):
        require(connect(config.kafka), config.kafka, f"{name}.in")


def test_a_refused_login_is_told_at_once(kafka: Kafka, tmp_path: Path) -> None:
    """A wrong login is a configuration's fault, not an outage to wait for."""
    config, path, _ = configuration(kafka, tmp_path)
    login = {"security_protocol": "sasl_plaintext", "sasl_mechanism": "PLAIN", "sasl_username": "u"}
    environ = {f"STREAMER_KAFKA__PROPERTIES__{name.upper()}": value for name, value in login.items()}
    config = load(path, {**environ, "STREAMER_KAFKA__PROPERTIES__SASL_PASSWORD": "hunter2"})
    with pytest.raises(ConfigurationError, match="asks for no login at this address; set") as caught:
        connect(config.kafka)
    assert "hunter2" not in str(caught.value)


def test_the_commands_report_and_exit_3_while_anything_is_wrong(
    kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts read JSON and the exit code; people read what to do."""
    _, path, name = configuration(kafka, tmp_path)
    assert main(["topics", "check", "--config", path]) == ExitCode.CONFIGURATION
    assert f"{name}.in: does not exist" in capsys.readouterr().out
    arguments = ["topics", "create", "--config", path, "--pipeline", "p", "--input-partitions", "2", "--json"]
    assert main(arguments) == ExitCode.DONE
    answer = json.loads(capsys.readouterr().out)
    assert f"{name}.out.dlq" in answer["created"]
    assert answer["findings"] == []
    assert main(["topics", "check", "--config", path]) == ExitCode.DONE


def test_spans_without_a_topic_are_said_to_be_dropped(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The topic is named, with what to do; it is not created by writing to it."""
    monkeypatch.setattr(span_topic, "MESSAGE_TIMEOUT_MS", 300)
    name = uuid4().hex[:8]
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)
    writer = span_topic.SpanTopic(config, name)
    assert writer.send(b"a span")
    writer.close(10)
    (said,) = [one for one in caplog.records if "the brokers do not take" in one.getMessage()]
    assert said.data["topic"] == name  # type: ignore[attr-defined]
    assert describe(connect(config), config, [name]) == {name: None}
