"""How large a record the topics take that a pipeline writes, once all its topics are found sound."""

from __future__ import annotations

from streamer.config_fields import Config
from streamer.errors import ConfigurationError
from streamer.kafka.topics import connect, examine

DEFAULT_MESSAGE_BYTES = 1_048_588  # the brokers' own default of max.message.bytes


def output_limits(config: Config, name: str) -> dict[str, int]:
    """`max.message.bytes` of every output topic, after checking all topics. Raises ConfigurationError with findings."""
    findings, found = examine(connect(config.kafka), config, [name])
    if findings:
        lines = "\n".join(f"- {finding.topic}: {finding.problem}; {finding.mend}" for finding in findings)
        raise ConfigurationError(f"the topics are not ready:\n{lines}")
    pipeline = config.pipelines[name]
    written = [topic for topic in (pipeline.output, pipeline.dead_letter, config.telemetry.reports) if topic]
    sizes = {topic: info.max_message_bytes for topic in written if (info := found[topic]) is not None}
    return {topic: sizes.get(topic) or DEFAULT_MESSAGE_BYTES for topic in written}
