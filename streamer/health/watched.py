"""The topics that the app lives on: which of them are gone, and what is to be done."""

from __future__ import annotations

from functools import cached_property

from streamer.config.load import Config
from streamer.kafka.topics import TopicsAdmin, connect, describe


class Watched:
    """Looks whether topics that were there are there still. Blocks; raises StreamerError."""

    def __init__(self, config: Config) -> None:
        self._kafka = config.kafka
        self._fixes = {
            config.health.topic: ("health.topic", "start the app again, which recreates it"),
            config.telemetry.reports: ("telemetry.reports", "recreate it with `streamer topics create`"),
        }
        if feedback := config.health.feedback:
            self._fixes[feedback] = ("health.feedback", "start the app again, which recreates it")
            for name, pipeline in config.pipelines.items():
                fix = "recreate it with `streamer topics create`; feedback on what it held finds no result"
                self._fixes[pipeline.output] = (f"pipelines.{name}.output", fix)
        self._seen: set[str] = set()

    @cached_property
    def _admin(self) -> TopicsAdmin:
        """One for all looks: to end a client waits for its threads, for which brokers that are away may take long."""
        return connect(self._kafka)

    def look(self) -> dict[str, str]:
        """The topics that are gone: for each the field that names it, and what to do."""
        infos = describe(self._admin, self._kafka, list(self._fixes))
        there = {topic for topic, info in infos.items() if info is not None}
        self._seen |= there
        return {
            topic: f"{field}: the topic {topic} was deleted; {fix}, or name another one there"
            for topic, (field, fix) in self._fixes.items()
            if topic in self._seen - there
        }
