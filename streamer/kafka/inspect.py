"""What `streamer doctor` asks of a cluster. Reads only; joins no group."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from streamer.config.fields import Config, KafkaConfig
from streamer.config.pipeline import PipelineConfig
from streamer.core.members import output_of, slot_of
from streamer.core.record import TopicPartition
from streamer.core.surroundings import BrokerInfo, ClientTimes, GroupInfo, MemberInfo, RunningInfo, TopicInfo
from streamer.errors import ConfigurationError, StreamerError
from streamer.kafka import topics as kafka_topics
from streamer.kafka.announced import announced, silent
from streamer.kafka.clients import admin_properties, check_properties, consumer_properties, producer_properties
from streamer.kafka.coordinator import when_loaded
from streamer.kafka.errors import answer, start_error
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.slots import SlotTakenError, take_slot

REQUEST_S = 10.0
_CONNECT_S = 3.0
_MOST_GROUPS = 500
_VERSIONS_WITHIN_S = 3.0
_API = re.compile(r"ApiKey \S+ \((\d+)\) Versions (\d+)\.\.(\d+)")
# Requests by number (kafka.apache.org/protocol): TxnOffsetCommit 3 came with KIP-447, DescribeCluster and
# ListTransactions with 2.8 and 3.0; 4.0 took the first versions of Fetch away (KIP-896).
_TXN_OFFSET_COMMIT, _FETCH, _DESCRIBE_CLUSTER, _LIST_TRANSACTIONS = 28, 1, 60, 66


def property_problem(kafka: KafkaConfig) -> str:
    """Why librdkafka refuses the configured properties; "" when it takes them. Connects to nothing."""
    try:
        check_properties(kafka)
    except StreamerError as error:
        return str(error)
    return ""


def client_times(kafka: KafkaConfig, pipeline: PipelineConfig) -> ClientTimes:
    """The times that the clients of a pipeline run with, the user's properties included."""
    consumer = consumer_properties(kafka, pipeline, "doctor")
    transaction = producer_properties(kafka, pipeline, "doctor").get("transaction.timeout.ms")
    return ClientTimes(
        transaction=int(transaction) if transaction and pipeline.guarantee == "exactly_once" else None,
        session=int(consumer["session.timeout.ms"]),
        heartbeat=int(consumer["heartbeat.interval.ms"]),
        poll=int(consumer["max.poll.interval.ms"]),
    )


def held_slot(pipeline: PipelineConfig) -> str:
    """The first slot that another process on this host holds, of those that the configuration names; "" if none is."""
    for member in range(1, pipeline.first_members + 1) if pipeline.slot else ():
        try:
            take_slot(pipeline.group, pipeline.slot, member=member).release()
        except SlotTakenError:
            return slot_of(pipeline.slot, member)
    return ""


class ClusterInspector:
    """Asks about brokers, topics and groups. Raises DependencyError when the cluster does not answer,
    ConfigurationError when it refuses us."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._kafka = config.kafka
        self._admin = kafka_topics.connect(config.kafka, _CONNECT_S, reach=False)
        self._offsets = GroupOffsets(config.kafka, self._admin)

    def broker(self) -> BrokerInfo:
        """The cluster as a whole."""
        metadata = self._admin.list_topics("", timeout=REQUEST_S)
        nodes = sorted(metadata.brokers)
        quiet = silent(announced(metadata))
        settings = self._settings(ResourceType.BROKER, [str(nodes[0])]) if nodes and not quiet else {}
        return BrokerInfo(
            address=self._kafka.bootstrap_servers,
            brokers=len(nodes),
            release=_release(self._kafka),
            settings=settings.get(str(nodes[0]), {}) if nodes else {},
            silent=quiet,
        )

    def problems(self, pipelines: Iterable[str]) -> list[kafka_topics.Finding]:
        """What `streamer topics check` finds."""
        try:
            return kafka_topics.check(self._admin, self._config, pipelines, operator=True)
        except ConfigurationError:  # who runs pipelines need not see what only operators use
            return kafka_topics.check(self._admin, self._config, pipelines)

    def topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        """Those of these topics that exist and that we may describe."""
        wanted = sorted(set(names))
        described = self._admin.describe_topics(TopicCollection(wanted), request_timeout=REQUEST_S)
        settings = self._settings(ResourceType.TOPIC, wanted)
        found = {}
        for name in wanted:
            try:
                partitions = answer(described[name], REQUEST_S).partitions
            except KafkaException:
                continue  # `problems` tells
            found[name] = TopicInfo(
                name=name,
                partitions=len(partitions),
                replication=len(partitions[0].replicas),
                in_sync=min(len(partition.isr) for partition in partitions),
                leaderless=sum(partition.leader is None or partition.leader.id < 0 for partition in partitions),
                settings=settings.get(name, {}),
            )
        return found

    def group(self, pipeline: PipelineConfig, topics: Iterable[str]) -> GroupInfo:
        """A pipeline's group, and where it has come in those of these topics that exist."""
        name = pipeline.group
        description = self._description(name)
        stable = description.state == ConsumerGroupState.STABLE
        counts = self._offsets.counts([*pipeline.input, pipeline.output])
        inputs = [topic for topic in topics if counts.get(topic)]
        outputs = [(pipeline.output, number) for number in range(counts.get(pipeline.output, 0))]
        return GroupInfo(
            name=name,
            assignor=description.partition_assignor or "",
            members=tuple(
                MemberInfo(
                    client=member.client_id or "",
                    host=(member.host or "").lstrip("/"),
                    slot=member.group_instance_id or "",
                    topics=frozenset(topic for topic, _ in _partitions(member)),
                )
                for member in description.members
            ),
            rights=_rights(description.authorized_operations),
            settled=self._offsets.committed(name),
            views=tuple(views := self._offsets.views(name, inputs, pipeline.start)),
            owned=frozenset().union(*map(_partitions, description.members)) if stable else None,
            written=sum(self._offsets.ends(outputs).values()),
            newest_ms=self._offsets.newest_ms(view.partition for view in views),
        )

    def running(self) -> list[RunningInfo]:
        """The pipelines that run on this cluster, as far as we may see. Of a large cluster the first `_MOST_GROUPS`."""
        found: set[RunningInfo] = set()
        try:
            listed = answer(self._admin.list_consumer_groups(states={ConsumerGroupState.STABLE}), REQUEST_S)
            names = sorted(each.group_id for each in listed.valid)[:_MOST_GROUPS]
            asked = self._admin.describe_consumer_groups(names, request_timeout=REQUEST_S) if names else {}
        except KafkaException:
            return []
        for name, future in asked.items():
            try:
                description = answer(future, REQUEST_S)
            except KafkaException:
                continue
            outputs = {output_of(member.client_id or "") for member in description.members}
            topics = frozenset(topic for member in description.members for topic, _ in _partitions(member))
            found |= {RunningInfo(name, topics, output) for output in outputs if output}
        return sorted(found, key=lambda one: (one.group, one.output))

    def _description(self, name: str) -> Any:
        try:
            return when_loaded(
                lambda: self._admin.describe_consumer_groups(
                    [name], include_authorized_operations=True, request_timeout=REQUEST_S
                )[name]
            )
        except KafkaException as error:
            raise start_error(error, address=self._kafka.bootstrap_servers, resource=f"group {name}") from None

    def _settings(self, kind: ResourceType, names: list[str]) -> dict[str, dict[str, str]]:
        """Configurations by name; without those that we have no right to see."""
        if not names:
            return {}
        found = {}
        requests = self._admin.describe_configs(
            [ConfigResource(kind, name) for name in names], request_timeout=REQUEST_S
        )
        for resource, future in requests.items():
            try:
                entries = answer(future, REQUEST_S)
            except KafkaException:
                continue
            found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
        return found


class _Lines(logging.Handler):
    """Keeps what the client says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _release(kafka: KafkaConfig) -> tuple[int, int] | None:
    """The newest release that the brokers' request versions prove; None when they did not come.

    No request tells a broker's release, and the client tells the versions in its log alone.
    """
    lines = _Lines()
    log = logging.Logger("streamer.kafka.inspect")
    log.addHandler(lines)
    admin = AdminClient({**admin_properties(kafka), "debug": "feature"}, logger=log)
    deadline = time.monotonic() + _VERSIONS_WITHIN_S
    # What the client makes of the versions follows the last of them.
    while not any("Feature " in line for line in lines.lines) and time.monotonic() < deadline:
        admin.poll(0.1)
    found = (match.groups() for line in lines.lines if (match := _API.search(line)))
    spoken = {int(key): (int(low), int(high)) for key, low, high in found}
    return release_of(spoken) if spoken else None


def release_of(spoken: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """The newest release that these versions of requests prove; (0, 0) for one before 2.5."""
    if spoken.get(_TXN_OFFSET_COMMIT, (0, 0))[1] < 3:
        return 0, 0
    if spoken.get(_FETCH, (0, 0))[0] >= 4:
        return 4, 0
    if _LIST_TRANSACTIONS in spoken:
        return 3, 0
    return (2, 8) if _DESCRIBE_CLUSTER in spoken else (2, 5)


def _partitions(member: Any) -> set[TopicPartition]:
    """What a member of a group reads."""
    return {(one.topic, one.partition) for one in (member.assignment.topic_partitions if member.assignment else ())}


def _rights(operations: list[Any] | None) -> frozenset[str] | None:
    return frozenset(right.name.capitalize() for right in operations) if operations else None
