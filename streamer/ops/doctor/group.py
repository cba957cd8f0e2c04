"""Rules on a pipeline's group: who is in it, and what it may do."""

from __future__ import annotations

from collections.abc import Iterator

from streamer.config.load import PipelineConfig
from streamer.core.members import CLIENT, output_of, slot_of
from streamer.core.surroundings import BrokerInfo, GroupInfo
from streamer.ops.doctor.finding import Finding, error, warning

ASSIGNOR = "cooperative-sticky"


def judge(group: GroupInfo, pipeline: PipelineConfig, client: str, broker: BrokerInfo) -> Iterator[Finding]:
    """What is wrong with the group. `client` is the client.id that the pipeline's own members carry."""
    where = f"group {group.name}"
    if group.rights is not None and "Read" not in group.rights:
        yield error(
            "group.rights",
            where,
            "no right to Read the group",
            f"kafka-acls --bootstrap-server {broker.address} --add --allow-principal User:NAME --operation Read"
            f" --group {group.name}",
        )
    most = broker.settings.get("group.max.size", "")
    if most.isdigit() and len(group.members) >= int(most):
        yield error(
            "group.full",
            where,
            f"it has {len(group.members)} members, and the brokers let no more in (group.max.size)",
            "run fewer replicas, or raise group.max.size on the brokers",
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


def _members(group: GroupInfo, pipeline: PipelineConfig, client: str, where: str) -> Iterator[Finding]:
    if group.members and group.assignor not in ("", ASSIGNOR):
        yield error(
            "group.assignor",
            where,
            f"its members assign by {group.assignor}: Kafka refuses a member that assigns by {ASSIGNOR}",
            "stop them (kafka-consumer-groups --describe --members names them), or set `group` to another name",
        )
        return
    slots = [slot_of(pipeline.slot, number + 1) for number in range(pipeline.first_members)]
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
        elif (output := output_of(member.client)) and member.client != client:
            yield error(
                "group.output",
                where,
                f"a member ({who}) writes its results to {output}, not to {pipeline.output}: two configurations share"
                " the group, and each answers a part of the records",
                "stop one of the two, or set `group` to another name for it",
            )
        elif member.client not in (client, CLIENT):
            yield error(
                "group.alien",
                where,
                f"a member ({who}) is not streamer's, and takes a part of its records",
                "stop it, or set `group` to another name",
            )
        if pipeline.slot and pipeline.static_membership and member.slot in slots:
            yield error(
                "group.slot",
                where,
                f"slot {member.slot} is a member already ({who}): starting another one ends that one",
                "stop it first, or give this replica another slot",
            )
