"""Where this configuration lets dead letters be sent."""

from __future__ import annotations

import re
from collections.abc import Sequence

from streamer.config.load import Config
from streamer.core.deadletters.audit import AUDIT_TOPIC
from streamer.core.deadletters.destinations import Destinations
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.errors import UsageError

_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")


def destinations(
    config: Config, sources: Sequence[str], to: str, addressee: str, *, to_dead_letters: bool = False
) -> Destinations:
    """What `to` and `addressee`, each "" for none, ask for. `sources` are the topics that dead letters are read from.

    Raises UsageError for a target that is no place for events, and for a pipeline that is not configured.
    """
    if addressee and addressee not in config.pipelines:
        known = ", ".join(config.pipelines) or "none"
        raise UsageError(f"--for {addressee}: no such pipeline in the configuration; there are: {known}")
    if to in sources:
        raise UsageError(f"--to {to}: dead letters are read from this topic; name another one")
    if to:
        refuse_own_topics(config, to)
        if not to_dead_letters and (to in _dead_letter_topics(config) or to.endswith(".dlq")):
            raise UsageError(
                f"--to {to}: it holds dead letters, which no pipeline reads; add --to-dead-letters to insist"
            )
    readers: dict[str, frozenset[str]] = {}
    for name, pipeline in config.pipelines.items():
        for topic in pipeline.input:
            readers[topic] = readers.get(topic, frozenset()) | {name}
    return Destinations(readers, to, addressee)


def refuse_own_topics(config: Config, to: str, where: str = "--to") -> None:
    """Raise UsageError for Kafka's own topics and streamer's own; `where` is who names the topic."""
    if _TOPIC.fullmatch(to) is None:
        raise UsageError(f"{where} {to}: no topic can have that name")
    if to.startswith("__"):
        raise UsageError(f"{where} {to}: it is Kafka's own topic; events go elsewhere")
    inputs = {topic for pipeline in config.pipelines.values() for topic in pipeline.input}
    ours = {STATE_TOPIC, AUDIT_TOPIC, config.telemetry.spans, config.telemetry.reports}
    if to in ours or (to.startswith("streamer.") and to not in inputs):
        raise UsageError(f"{where} {to}: it is streamer's own topic; events go elsewhere")


def _dead_letter_topics(config: Config) -> set[str]:
    return {pipeline.dead_letter for pipeline in config.pipelines.values()}
