"""Rules on the cluster as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from streamer.config.load import PipelineConfig
from streamer.core.surroundings import BrokerInfo
from streamer.ops.doctor.finding import Finding, error, warning

# KIP-447: settled offsets that wait for the transaction of the partition's last owner.
OLDEST = (2, 5)
# A group that is idle for longer than this loses its offsets, and with it its place.
_SHORT_OFFSETS_MINUTES = 24 * 60


def judge(broker: BrokerInfo, pipelines: dict[str, PipelineConfig]) -> Iterator[Finding]:
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
