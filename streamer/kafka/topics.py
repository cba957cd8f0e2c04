"""The topics that a configuration needs: describe them, say what is wrong with them, create those that are missing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streamer.config.fields import Config, KafkaConfig
from streamer.core.deadletters.audit import AUDIT_TOPIC
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.errors import ConfigurationError, DependencyError
from streamer.kafka.announced import announced, learn
from streamer.kafka.clients import admin_properties, make_admin
from streamer.kafka.errors import answer, error_of, silent_error, start_error

# A dead letter is its record and our headers, which stay below this.
DEAD_LETTER_HEADROOM_BYTES = 64_000
# Where `streamer dlq` writes down replays and discards; no pipeline needs them. The state is compacted, so that the
# last word on each dead letter stays; the audit is kept for good.
OPERATOR_TOPICS = (STATE_TOPIC, AUDIT_TOPIC)
_CREATED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the cluster describes it; None where the cluster does not let us see it."""

    name: str
    partitions: int
    replication: int
    max_message_bytes: int | None
    cleanup_policy: str | None
    rights: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a topic, and how to fix it. `code` is `topic.problem`, for scripts. A `warning` keeps no
    pipeline from starting."""

    topic: str
    problem: str
    fix: str
    code: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What the configuration asks of a topic. -1 partitions takes the broker's default when it is created."""

    topic: str
    operation: str
    partitions: int = -1
    max_message_bytes: int = 0
    cleanup_policy: str = ""

    def joined(self, other: Demand) -> Demand:
        """What satisfies both."""
        return Demand(
            self.topic,
            self.operation,
            max(self.partitions, other.partitions),
            max(self.max_message_bytes, other.max_message_bytes),
            self.cleanup_policy or other.cleanup_policy,
        )


TopicsAdmin = AdminClient
"""For those who keep one and may not import the client's library."""


def connect(kafka: KafkaConfig, timeout_s: float = 5, *, reach: bool = True) -> AdminClient:
    """An admin client whose cluster has answered, and can be reached where it says it is, unless `reach` is false.
    Raises DependencyError or ConfigurationError with the reason."""
    told: list[KafkaError] = []
    admin = make_admin(admin_properties(kafka), on_error=told.append)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            metadata = admin.list_topics("", timeout=min(1.0, timeout_s))
        except KafkaException as error:
            admin.poll(0)
            # The call says "transport failure" only; the callback was told of logins, handshakes and host names.
            telling = next((each for each in told if each.code() != KafkaError._ALL_BROKERS_DOWN), error_of(error))
            lasting = isinstance(start_error(telling, address=kafka.bootstrap_servers), ConfigurationError)
            if lasting or time.monotonic() >= deadline:
                # Without a name for it: an exception in its own frame is a cycle, with the client in it (see `answer`).
                raise start_error(telling, address=kafka.bootstrap_servers) from None
            continue
        if not learn(kafka.bootstrap_servers, metadata) and reach:
            raise silent_error(kafka.bootstrap_servers, announced(metadata))
        return admin


def describe(
    admin: AdminClient, kafka: KafkaConfig, names: Iterable[str], timeout_s: float = 10
) -> dict[str, TopicInfo | None]:
    """Each topic, None where it does not exist. Raises DependencyError, or ConfigurationError for a missing right."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    described = admin.describe_topics(
        TopicCollection(wanted), include_authorized_operations=True, request_timeout=timeout_s
    )
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
    settings = {resource.name: future for resource, future in admin.describe_configs(resources).items()}
    infos: dict[str, TopicInfo | None] = {}
    for name in wanted:
        try:
            description = answer(described[name], timeout_s)
        except KafkaException as error:
            if error_of(error).code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID):
                raise start_error(error, address=kafka.bootstrap_servers, resource=f"topic {name}") from None
            infos[name] = None
            continue
        values = _settings(settings[name], timeout_s)
        limit = values.get("max.message.bytes")
        rights = description.authorized_operations
        infos[name] = TopicInfo(
            name=name,
            partitions=len(description.partitions),
            replication=len(description.partitions[0].replicas),
            max_message_bytes=int(limit) if limit else None,
            cleanup_policy=values.get("cleanup.policy"),
            rights=frozenset(right.name.capitalize() for right in rights) if rights else None,
        )
    return infos


def require(admin: AdminClient, kafka: KafkaConfig, topic: str) -> TopicInfo:
    """The topic as it is. Raises ConfigurationError when it does not exist."""
    info = describe(admin, kafka, [topic])[topic]
    if info is None:
        missing = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        raise start_error(missing, address=kafka.bootstrap_servers, resource=f"topic {topic}")
    return info


def check(
    admin: AdminClient, config: Config, pipelines: Iterable[str] | None = None, *, operator: bool = False
) -> list[Finding]:
    """Everything wrong with the topics of these pipelines (None: all); `run` may start with warnings alone.

    With `operator` also those of `streamer dlq`, which no pipeline needs.
    """
    findings, _ = examine(admin, config, pipelines, operator=operator)
    return findings


def examine(
    admin: AdminClient, config: Config, pipelines: Iterable[str] | None = None, *, operator: bool = False
) -> tuple[list[Finding], dict[str, TopicInfo | None]]:
    """What `check` finds, and the topics as they are, for who has to know both and asks once."""
    names = list(config.pipelines if pipelines is None else pipelines)
    topics = _topics(config, names) if operator else _topics(config, names).difference(OPERATOR_TOPICS)
    infos = describe(admin, config.kafka, topics)
    findings: list[Finding] = []
    for demand in demands(config, names, infos).values():
        if demand.topic in OPERATOR_TOPICS and not operator:
            continue
        findings += _judge(demand, infos[demand.topic], config.kafka)
    return findings, infos


def create(
    admin: AdminClient,
    config: Config,
    pipelines: Iterable[str] | None = None,
    *,
    input_partitions: int | None = None,
    replication: int = -1,
) -> list[str]:
    """Create what is missing, change nothing that exists, and name what was created.

    Inputs belong to their producers: they are created only with `input_partitions`, and the outputs of a pipeline only
    when its inputs are there. Outputs get as many partitions as the input, the dead-letter topic also its size limit
    plus 64 kB. `replication` -1 is the broker's default. Raises ConfigurationError where a right is missing.
    """
    names = list(config.pipelines if pipelines is None else pipelines)
    topics = _topics(config, names)
    created: list[str] = []
    infos = describe(admin, config.kafka, topics)
    if input_partitions is not None:
        made_by_us = {topic for name in names for topic in _outputs(config, name)}
        inputs = {topic for name in names for topic in config.pipelines[name].input} - made_by_us
        missing = [NewTopic(topic, input_partitions, replication) for topic in sorted(inputs) if infos[topic] is None]
        created += create_topics(admin, config.kafka, missing)
        infos = describe(admin, config.kafka, topics)
    while True:  # once more for each pipeline that reads what another one writes
        ready = [name for name in names if all(infos[topic] for topic in config.pipelines[name].input)]
        missing = [
            NewTopic(topic, demand.partitions, replication, config=_topic_config(demand))
            for topic, demand in demands(config, ready, infos).items()
            if infos[topic] is None
        ]
        if not missing:
            return created
        created += create_topics(admin, config.kafka, missing)
        infos = describe(admin, config.kafka, topics)


def demands(config: Config, pipelines: Iterable[str], infos: Mapping[str, TopicInfo | None]) -> dict[str, Demand]:
    """What these pipelines ask of each topic, given the inputs as they are."""
    asked: list[Demand] = []
    for name in pipelines:
        pipeline = config.pipelines[name]
        inputs = [info for topic in pipeline.input if (info := infos[topic]) is not None]
        partitions = max((info.partitions for info in inputs), default=-1)
        largest = max((info.max_message_bytes or 0 for info in inputs), default=0)
        outputs = partitions if pipeline.partitioning == "same" else -1
        asked += [Demand(topic, "Read") for topic in pipeline.input]
        asked.append(Demand(pipeline.output, "Write", outputs))
        limit = largest + DEAD_LETTER_HEADROOM_BYTES if largest else 0
        asked.append(Demand(pipeline.dead_letter, "Write", outputs, limit, "delete"))
        asked.append(Demand(STATE_TOPIC, "Write", cleanup_policy="compact"))
        asked.append(Demand(AUDIT_TOPIC, "Write", cleanup_policy="delete"))
    asked += [Demand(topic, "Write", cleanup_policy="delete") for topic in _telemetry(config)]
    joined: dict[str, Demand] = {}
    for demand in asked:
        known = joined.get(demand.topic)
        joined[demand.topic] = known.joined(demand) if known else demand
    return joined


def _outputs(config: Config, name: str) -> tuple[str, str]:
    return config.pipelines[name].output, config.pipelines[name].dead_letter


def _telemetry(config: Config) -> list[str]:
    return [topic for topic in (config.telemetry.spans, config.telemetry.reports) if topic]


def _topics(config: Config, pipelines: list[str]) -> set[str]:
    topics = {*OPERATOR_TOPICS, *_telemetry(config)}
    for name in pipelines:
        pipeline = config.pipelines[name]
        topics |= {*pipeline.input, pipeline.output, pipeline.dead_letter}
    return topics


def _judge(demand: Demand, info: TopicInfo | None, kafka: KafkaConfig) -> list[Finding]:
    topic, tools = demand.topic, f"--bootstrap-server {kafka.bootstrap_servers}"
    if info is None:
        own = demand.operation == "Write"
        fix = "run `streamer topics create`" if own else "correct its name, or create it with --input-partitions N"
        return [Finding(topic, "does not exist", fix, "topic.missing")]
    findings = []
    if info.rights is not None and demand.operation not in info.rights:
        fix = f"kafka-acls {tools} --add --allow-principal User:NAME --operation {demand.operation} --topic {topic}"
        findings.append(Finding(topic, f"no right to {demand.operation}", fix, "topic.rights"))
    if info.partitions < demand.partitions:
        problem = f"{info.partitions} partitions, {demand.partitions} are needed (as many as the input has)"
        fix = f"kafka-topics {tools} --alter --topic {topic} --partitions {demand.partitions}"
        findings.append(Finding(topic, problem, fix, "topic.partitions"))
    change = f"kafka-configs {tools} --alter --entity-type topics --entity-name {topic} --add-config "
    if info.max_message_bytes is not None and info.max_message_bytes < demand.max_message_bytes:
        problem = (
            f"max.message.bytes is {info.max_message_bytes}, {demand.max_message_bytes} are needed:"
            " the input's limit and 64 kB for headers. A dead letter that does not fit goes without its value"
        )
        fix = f"{change}max.message.bytes={demand.max_message_bytes}"
        findings.append(Finding(topic, problem, fix, "topic.size", warning=not kafka.strict_topics))
    if info.cleanup_policy is not None and demand.cleanup_policy not in ("", *info.cleanup_policy.split(",")):
        problem = f"cleanup.policy is {info.cleanup_policy}, {demand.cleanup_policy} is needed"
        findings.append(Finding(topic, problem, f"{change}cleanup.policy={demand.cleanup_policy}", "topic.cleanup"))
    return findings


def _topic_config(demand: Demand) -> dict[str, str]:
    config = {"cleanup.policy": demand.cleanup_policy} if demand.cleanup_policy else {}
    if demand.max_message_bytes:
        config["max.message.bytes"] = str(demand.max_message_bytes)
    if demand.topic == AUDIT_TOPIC:
        config["retention.ms"] = "-1"
    return config


def create_topics(admin: AdminClient, kafka: KafkaConfig, topics: list[NewTopic]) -> list[str]:
    """Create these topics and return when the cluster describes them: brokers learn of them one after another."""
    created = []
    for name, future in (admin.create_topics(topics) if topics else {}).items():
        try:
            answer(future)
            created.append(name)
        except KafkaException as error:
            if error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                resource = f"topic {name}"
                raise start_error(
                    error, address=kafka.bootstrap_servers, operation="Create", resource=resource
                ) from None
    unknown = {topic.topic for topic in topics}
    deadline = time.monotonic() + _CREATED_WITHIN_S
    while unknown := {name for name, info in describe(admin, kafka, unknown).items() if info is None}:
        if time.monotonic() > deadline:
            raise DependencyError(
                f"Kafka at {kafka.bootstrap_servers} accepted the request to create {', '.join(sorted(unknown))} but"
                f" does not know of it after {_CREATED_WITHIN_S:g} s; look at the brokers' logs"
            )
        time.sleep(0.05)
    return created


def _settings(future: Future[dict[str, Any]], timeout_s: float) -> dict[str, str]:
    """A topic's configuration, empty where the right to DescribeConfigs is missing."""
    try:
        return {name: str(entry.value) for name, entry in answer(future, timeout_s).items()}
    except KafkaException:
        return {}
