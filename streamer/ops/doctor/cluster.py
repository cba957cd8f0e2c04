"""Rules on the cluster: its brokers, and topics beyond what `streamer topics check` demands before any start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamer.config.load import Config, PipelineConfig
from streamer.core.surroundings import BrokerInfo, TopicInfo
from streamer.ops.doctor.finding import Finding, error, warning
from streamer.ops.doctor.peers import Expected

# KIP-447: settled offsets that wait for the transaction of the partition's last owner.
OLDEST = (2, 5)
# A group that is idle for longer than this loses its offsets, and with it its place.
_SHORT_OFFSETS_MINUTES = 24 * 60


_PROTOCOL = "in kafka.properties"


def expected(*, tls: bool, login: bool) -> Expected:
    """Who is to answer at the bootstrap addresses, by security.protocol."""
    names = ("SSL", "SASL_SSL"), ("PLAINTEXT", "SASL_PLAINTEXT")
    with_tls, without = (f"set security.protocol to {one} or {other} {_PROTOCOL}" for one, other in names)
    return Expected(
        "Kafka",
        tls,
        "kafka.bootstrap_servers",
        with_tls=f"{with_tls}, or name a listener without TLS",
        without_tls=f"{without}, or name a listener with TLS",
        trust="",  # the client says it, in words of its own
        login=login,
        with_login=f"set security.protocol to {names[not tls][1]}, sasl.mechanism and what it needs {_PROTOCOL}",
    )


def judge_brokers(broker: BrokerInfo, pipelines: dict[str, PipelineConfig]) -> Iterator[Finding]:
    """What is wrong with the brokers."""
    where = f"Kafka at {broker.address}"
    for address in broker.silent:
        yield error(
            "broker.silent",
            where,
            f"a broker says that it is at {address}, where nobody answers this machine",
            "correct advertised.listeners of that broker, or let this machine reach it",
        )
    exactly_once = any(pipeline.guarantee == "exactly_once" for pipeline in pipelines.values())
    if broker.release is not None and broker.release < OLDEST and exactly_once:
        yield error(
            "broker.old",
            where,
            "the brokers are older than Kafka 2.5, which exactly_once needs",
            'upgrade them, or set guarantee = "at_least_once"',
        )
    minutes = broker.settings.get("offsets.retention.minutes", "")
    if minutes.isdigit() and int(minutes) < _SHORT_OFFSETS_MINUTES:
        yield warning(
            "broker.offsets_retention",
            where,
            f"offsets.retention.minutes is {minutes}: a pipeline that is stopped for longer forgets its position",
            "raise it to 10080 (a week), the brokers' default",
        )


HOUR_MS = 3_600_000
_SHORT_INPUT_MS = HOUR_MS
_SHORT_DEAD_LETTERS_MS = 72 * HOUR_MS


def judge_topics(
    config: Config, pipelines: list[str], topics: Mapping[str, TopicInfo], broker: BrokerInfo
) -> Iterator[Finding]:
    """What is wrong with the topics of these pipelines."""
    inputs = {topic for name in pipelines for topic in config.pipelines[name].input}
    outputs = {config.pipelines[name].output for name in pipelines}
    dead_letters = {config.pipelines[name].dead_letter for name in pipelines}
    tools = f"--bootstrap-server {broker.address}"
    for name, topic in topics.items():
        change = f"kafka-configs {tools} --alter --entity-type topics --entity-name {name} --add-config "
        yield from _replicas(topic, broker, change, written=name not in inputs)
        if name in inputs:
            yield from _input_retention(topic, change)
        if name in outputs and _compacted(topic):
            yield warning(
                "topic.compacted",
                name,
                "cleanup.policy compacts results: of each key only the newest result stays, and a result without a key"
                " is refused by the broker",
                f"{change}cleanup.policy=delete",
            )
        if name in dead_letters:
            yield from _dead_letters(topic, change)


def _replicas(topic: TopicInfo, broker: BrokerInfo, change: str, *, written: bool) -> Iterator[Finding]:
    if topic.leaderless:
        yield error(
            "topic.leaderless",
            topic.name,
            f"{topic.leaderless} of {topic.partitions} partitions have no leader: they can be neither read nor written",
            "start the brokers that hold their replicas (kafka-topics --describe names them)",
        )
        return
    least = _number(topic, "min.insync.replicas") or 1
    if written and topic.in_sync < least:
        yield error(
            "topic.insync",
            topic.name,
            f"min.insync.replicas is {least}, but a partition has {topic.in_sync} of {topic.replication} replicas in"
            " sync: every write is refused",
            "start the brokers that are missing" if topic.replication >= least else f"{change}min.insync.replicas=1",
        )
    if broker.brokers > 1 and topic.replication == 1:
        yield warning(
            "topic.replication",
            topic.name,
            f"one replica, though there are {broker.brokers} brokers: it is gone with its broker",
            "move it to three replicas with kafka-reassign-partitions",
        )
    elif written and topic.replication > 1 and least == 1:
        yield warning(
            "topic.insync_one",
            topic.name,
            "min.insync.replicas is 1: a broker that fails may take acknowledged records with it",
            f"{change}min.insync.replicas=2",
        )


def _input_retention(topic: TopicInfo, change: str) -> Iterator[Finding]:
    retention_ms = _number(topic, "retention.ms")
    if retention_ms is not None and 0 <= retention_ms < _SHORT_INPUT_MS and not _compacted(topic):
        yield warning(
            "topic.retention",
            topic.name,
            f"retention.ms is {retention_ms:,}: a pipeline that is down for longer loses events",
            f"{change}retention.ms={24 * HOUR_MS}",
        )


def _dead_letters(topic: TopicInfo, change: str) -> Iterator[Finding]:
    if _compacted(topic):
        yield error(
            "topic.compacted",
            topic.name,
            "cleanup.policy compacts dead letters: of each key only the newest stays, the others are lost",
            f"{change}cleanup.policy=delete",
        )
    retention_ms = _number(topic, "retention.ms")
    if retention_ms is not None and 0 <= retention_ms < _SHORT_DEAD_LETTERS_MS:
        yield warning(
            "topic.retention",
            topic.name,
            f"retention.ms is {retention_ms:,}: dead letters are gone before a weekend is over",
            f"{change}retention.ms={336 * HOUR_MS} (two weeks)",
        )


def _compacted(topic: TopicInfo) -> bool:
    return "compact" in topic.settings.get("cleanup.policy", "").split(",")


def _number(topic: TopicInfo, setting: str) -> int | None:
    text = topic.settings.get(setting, "")
    return int(text) if text.removeprefix("-").isdigit() else None
