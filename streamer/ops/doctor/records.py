"""Rules on what a group has not read: is it there, can it be read, is it known to be unread, when was it written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamer.config.load import PipelineConfig
from streamer.core.onlooker import View, standing
from streamer.core.standing import Reason
from streamer.core.surroundings import GroupInfo, TopicInfo
from streamer.ops.doctor.finding import Finding, error, warning

# A producer may take its time to commit; whoever reads behind it waits for so long.
_LONG_TRANSACTION_MS = 60_000


def judge(
    group: GroupInfo, pipeline: PipelineConfig, topics: Mapping[str, TopicInfo], now_ms: int, address: str
) -> Iterator[Finding]:
    """What is wrong with the records that this pipeline is to read."""
    for view in group.views:
        yield from _standing(view, pipeline, now_ms, address)
        if group.owned is not None and view.partition not in group.owned and view.records:
            yield warning(
                "records.unowned",
                f"{view.partition[0]}/{view.partition[1]}",
                f"{view.records:,} records wait, and no member of the group reads that partition: it is new, or was"
                " given to nobody",
                "wait for topic.metadata.refresh.interval.ms (5 minutes), or restart one of the members",
            )
        if view.framed and pipeline.input_format == "json":
            yield warning(
                "records.framed",
                f"{view.partition[0]}/{view.partition[1]} at offset {view.start}",
                "the next record starts with a zero byte, as the serializers of a schema registry frame it: that is not"
                " JSON, and becomes a dead letter (decode.json)",
                "name its format as input_format and set schema_registry.url, or have its producer send plain JSON",
            )
        if view.settled is not None and view.settled < view.earliest:
            yield _gone(view, pipeline)
        else:
            yield from _expiring(view, topics, now_ms)
    if not group.members:
        yield from _no_offsets(group, pipeline)


def _standing(view: View, pipeline: PipelineConfig, now_ms: int, address: str) -> Iterator[Finding]:
    for one in standing(view, now_ms, group=pipeline.group, address=address):
        young = one.reason is Reason.OPEN_TRANSACTION and now_ms - (view.open_ms or 0) < _LONG_TRANSACTION_MS
        passed = one.reason is Reason.OFFSET_BEYOND_END and pipeline.on_out_of_range == "earliest"
        topic, number = one.partition
        make = warning if young or passed else error
        yield make(f"records.{one.reason}", f"{topic}/{number} at offset {one.offset}", one.what, one.fix)


def _gone(view: View, pipeline: PipelineConfig) -> Finding:
    topic, number = view.partition
    settled = view.settled or 0
    stops = pipeline.on_out_of_range == "stop"
    return (error if stops else warning)(
        "records.gone",
        f"{topic}/{number}",
        f"retention deleted {view.earliest - settled:,} offsets that were not settled (from {settled:,} to"
        f" {view.earliest:,})" + (": the pipeline will stop there" if stops else ": they are left out"),
        'set on_out_of_range = "earliest" to continue without them' if stops else "raise the topic's retention.ms",
    )


def _expiring(view: View, topics: Mapping[str, TopicInfo], now_ms: int) -> Iterator[Finding]:
    topic, number = view.partition
    settings = topics[topic].settings if topic in topics else {}
    retention = settings.get("retention.ms", "")
    if not retention.isdigit() or not view.first_ms or "delete" not in settings.get("cleanup.policy", "delete"):
        return
    age_ms = now_ms - view.first_ms
    if age_ms > int(retention) / 2:
        yield error(
            "records.expiring",
            f"{topic}/{number}",
            f"the first record that is not settled is {age_ms / 3_600_000:,.1f} h old, and retention.ms deletes"
            f" after {int(retention) / 3_600_000:,.1f} h",
            "raise the topic's retention.ms now, then add replicas until `streamer lag` says caught up",
        )


def _no_offsets(group: GroupInfo, pipeline: PipelineConfig) -> Iterator[Finding]:
    """Of a group that nobody is in: one that runs may not have come so far yet."""
    unsettled = [view for view in group.views if view.settled is None and view.high > view.earliest]
    if not group.settled:
        if unsettled and group.written:
            yield warning(
                "group.no_offsets",
                f"group {group.name}",
                f"it has no committed offset, though {pipeline.output} has had {group.written:,} results: its offsets"
                " expired (offsets.retention.minutes) or were deleted, or others write there. A start reads from"
                f' start = "{pipeline.start}"',
                "if this pipeline wrote them, set its offsets with kafka-consumer-groups --reset-offsets before it"
                " starts: it answers the same records again otherwise",
            )
        return
    for topic in sorted({view.partition[0] for view in unsettled}):
        numbers = ", ".join(str(view.partition[1]) for view in unsettled if view.partition[0] == topic)
        yield warning(
            "group.no_offset",
            f"{topic}, partition {numbers}",
            "it has records and no committed offset, though the group has others: the partition is new, or its offset"
            " expired (offsets.retention.minutes): a start does not continue where the pipeline was",
            "if it is not new, set its offset with kafka-consumer-groups --reset-offsets before the pipeline starts",
        )


MOST_AHEAD_MS = 5_000


def judge_clock(group: GroupInfo, now_ms: int) -> Iterator[Finding]:
    """Whether records come from the future. No request of Kafka's returns a broker's clock, but no record may be newer
    than now: what is, was written by a clock that is ahead of ours. So ours is found when it is behind, not ahead."""
    for (topic, partition), newest_ms in group.newest_ms.items():
        ahead_ms = newest_ms - now_ms
        if ahead_ms > MOST_AHEAD_MS:
            yield warning(
                "clock.future",
                f"{topic}/{partition}",
                f"its newest timestamp is {ahead_ms / 1000:,.0f} s ahead of this machine's clock: latencies and lag"
                " will be wrong, and retention keeps those records longer",
                "synchronise both clocks with NTP: this machine's, and that of the producer (with"
                " message.timestamp.type = LogAppendTime: of the broker)",
            )
