"""Rules on a pipeline's group: who is in it, what it may do, and whether what it has not read is still there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamer.config import PipelineConfig
from streamer.core.facts import GroupFacts, TopicFacts
from streamer.ops.doctor.finding import Finding, error, warning

ASSIGNOR = "cooperative-sticky"
CLIENT = "streamer"


def judge(
    group: GroupFacts,
    pipeline: PipelineConfig,
    client: str,
    topics: Mapping[str, TopicFacts],
    now_ms: int,
    address: str,
) -> Iterator[Finding]:
    """What is wrong with the group. `client` is the client.id that streamer's own members carry."""
    where = f"group {group.name}"
    if group.rights is not None and "Read" not in group.rights:
        yield error(
            "group.rights",
            where,
            "no right to Read the group",
            f"kafka-acls --bootstrap-server {address} --add --allow-principal User:NAME --operation Read"
            f" --group {group.name}",
        )
    yield from _members(group, pipeline, client, where)
    foreign = sorted({topic for topic, _ in group.settled} - set(pipeline.input))
    if foreign and not any(member.topics & set(foreign) for member in group.members):
        yield warning(
            "group.foreign_offsets",
            where,
            f"it has offsets in {', '.join(foreign)}, which this pipeline does not read: another program used it, or"
            " the pipeline's input was changed",
            "if another program uses it, set `group` to another name; otherwise there is nothing to do",
        )
    for held in group.held:
        topic, partition = held.partition
        yield error("group.held", f"{topic}/{partition}/{held.offset}", held.what, held.fix)
    yield from _records(group, pipeline, topics, now_ms)


def _members(group: GroupFacts, pipeline: PipelineConfig, client: str, where: str) -> Iterator[Finding]:
    if group.members and group.assignor not in ("", ASSIGNOR):
        yield error(
            "group.assignor",
            where,
            f"its members assign by {group.assignor}: Kafka refuses a member that assigns by {ASSIGNOR}",
            "stop them (kafka-consumer-groups --describe --members names them), or set `group` to another name",
        )
        return
    for member in group.members:
        who = f"{member.client} on {member.host}"
        foreign = sorted(member.topics - set(pipeline.input))
        if foreign:
            yield error(
                "group.topics",
                where,
                f"a member ({who}) reads {', '.join(foreign)}, which this pipeline does not: two programs share"
                " the group",
                "set `group` to another name for one of the two",
            )
        elif member.client != client:
            yield error(
                "group.alien",
                where,
                f"a member ({who}) is not streamer's, and takes a part of the records away from it",
                "stop it, or set `group` to another name",
            )
        if pipeline.slot and pipeline.static_membership and member.slot == pipeline.slot:
            yield error(
                "group.slot",
                where,
                f"slot {pipeline.slot} is a member already ({who}): to start another one ends that one",
                "stop it first, or give this replica another slot",
            )


def _records(
    group: GroupFacts, pipeline: PipelineConfig, topics: Mapping[str, TopicFacts], now_ms: int
) -> Iterator[Finding]:
    for (topic, partition), earliest in group.earliest.items():
        settled = group.settled.get((topic, partition))
        if settled is not None and settled < earliest:
            stops = pipeline.on_out_of_range == "stop"
            yield (error if stops else warning)(
                "records.gone",
                f"{topic}/{partition}",
                f"retention deleted {earliest - settled:,} offsets that were not settled (from {settled:,} to"
                f" {earliest:,})" + (": the pipeline will stop there" if stops else ": they are left out"),
                'set on_out_of_range = "earliest" to go on without them' if stops else "raise the topic's retention.ms",
            )
            continue
        retention = topics[topic].settings.get("retention.ms", "") if topic in topics else ""
        written_ms = group.first_ms.get((topic, partition), 0)
        compacted = topic in topics and "delete" not in topics[topic].settings.get("cleanup.policy", "delete")
        if not retention.isdigit() or not written_ms or compacted:
            continue
        age_ms = now_ms - written_ms
        if age_ms > int(retention) / 2:
            yield error(
                "records.expiring",
                f"{topic}/{partition}",
                f"the first record that is not settled is {age_ms / 3_600_000:,.1f} h old, and retention.ms deletes"
                f" after {int(retention) / 3_600_000:,.1f} h",
                "raise the topic's retention.ms now, then add replicas until `streamer lag` says caught up",
            )
