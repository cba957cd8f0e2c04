"""Rules on pipelines: what those of one configuration do to one another, and the times that their clients are told,
against the brokers' bounds and the pipeline's own deadlines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from streamer.config.load import PipelineConfig
from streamer.core.surroundings import BrokerInfo, ClientTimes, RunningInfo
from streamer.core.tally import plural
from streamer.ops.doctor.finding import Finding, error, warning


def judge(pipelines: Mapping[str, PipelineConfig]) -> Iterator[Finding]:
    """Topics that two pipelines write to."""
    for (one, first), (other, second) in combinations(pipelines.items(), 2):
        where = f"pipelines {one} and {other}"
        if first.output == second.output:
            yield warning(
                "pipelines.output",
                where,
                f"both write results to {first.output}: subscribers get two results for one event",
                "give each its own output, unless subscribers tell them apart by the field `pipeline`",
            )


def judge_members(name: str, pipeline: PipelineConfig, partitions: int) -> Iterator[Finding]:
    """More members than the input has `partitions`: 0 is not known."""
    if pipeline.members > partitions > 0:
        yield warning(
            "pipelines.members",
            f"pipeline {name}",
            f"members is {pipeline.members}, and the input has {plural(partitions, 'partition')}: the others stand by,"
            " each with the model in memory",
            f"set members to {partitions} or less, or give the input more partitions",
        )


def judge_running(name: str, pipeline: PipelineConfig, running: Sequence[RunningInfo]) -> Iterator[Finding]:
    """Rings with pipelines of other configurations, found by what their members say. Those of one configuration are
    refused with it."""
    ways = {topic: [f"pipeline {name}"] for topic in (pipeline.output, pipeline.dead_letter)}
    waiting = list(ways)
    while waiting:
        topic = waiting.pop()
        if topic in pipeline.input:
            ring = " → ".join([*ways[topic], f"pipeline {name}"])
            yield error(
                "pipelines.loop",
                f"pipeline {name}",
                f"its results or dead letters come back as its input ({ring}): events go round forever",
                "let one of them read or write another topic",
            )
            return
        for other in running:
            if topic in other.inputs and other.group != pipeline.group and other.output not in ways:
                ways[other.output] = [*ways[topic], f"group {other.group}"]
                waiting.append(other.output)


_SHORT_TRANSACTION_MS = 5_000
_LONG_TRANSACTION_MS = 60_000


def judge_times(name: str, pipeline: PipelineConfig, times: ClientTimes, broker: BrokerInfo) -> Iterator[Finding]:
    """What does not fit together."""
    where = f"pipeline {name}"
    properties = "in [kafka.properties]"
    if times.transaction is not None:
        yield from _transaction(where, times.transaction, _bound(broker, "transaction.max.timeout.ms"))
    least, most = _bound(broker, "group.min.session.timeout.ms"), _bound(broker, "group.max.session.timeout.ms")
    if (least is not None and times.session < least) or (most is not None and times.session > most):
        yield error(
            "timing.session",
            where,
            f"session.timeout.ms is {times.session:,}; the brokers take {least or 0:,} to {most or 0:,} and refuse the"
            " member otherwise",
            f"set session.timeout.ms {properties} within that, or remove it",
        )
    if times.heartbeat * 3 > times.session:
        yield warning(
            "timing.heartbeat",
            where,
            f"heartbeat.interval.ms is {times.heartbeat:,}, more than a third of session.timeout.ms"
            f" ({times.session:,}): two late heartbeats lose the partitions",
            f"lower heartbeat.interval.ms {properties}, or remove it",
        )
    waits_ms = int((pipeline.revoke_deadline_s + pipeline.hold_s) * 1000)
    if times.poll <= waits_ms:
        yield error(
            "timing.poll",
            where,
            f"max.poll.interval.ms is {times.poll:,}, but giving partitions away may take revoke_deadline_s and hold_s:"
            f" {waits_ms:,} ms without a poll, after which the member is removed from the group",
            f"raise max.poll.interval.ms {properties} above that (300000 by default), or lower revoke_deadline_s",
        )


def _transaction(where: str, transaction_ms: int, most: int | None) -> Iterator[Finding]:
    """The model's work lies before the transaction, so that lease_s does not count: only the settling does."""
    fix = "remove transaction.timeout.ms from [kafka.properties]: 10000 is the default here"
    if most is not None and transaction_ms > most:
        yield error(
            "timing.transaction",
            where,
            f"transaction.timeout.ms is {transaction_ms:,}; the brokers refuse more than {most:,}"
            " (transaction.max.timeout.ms)",
            fix,
        )
    elif transaction_ms < _SHORT_TRANSACTION_MS:
        yield warning(
            "timing.transaction",
            where,
            f"transaction.timeout.ms is {transaction_ms:,}: a broker that moves a partition aborts what is being"
            " settled",
            fix,
        )
    elif transaction_ms > _LONG_TRANSACTION_MS:
        yield warning(
            "timing.transaction",
            where,
            f"transaction.timeout.ms is {transaction_ms:,}: after a crash, readers of the results wait that long",
            fix,
        )


def _bound(broker: BrokerInfo, setting: str) -> int | None:
    text = broker.settings.get(setting, "")
    return int(text) if text.isdigit() else None
