"""Reads the results of pipelines that have feedback by ids which their events brought along."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from streamer.config.load import Config
from streamer.core.health.feedback.feedback import Place
from streamer.core.health.feedback.ids import MOST_IDS, NamedResult
from streamer.kafka.reader import Reader
from streamer.kafka.readings import Results

_FIRST_S: Final = 1.0
_POLL_S: Final = 0.05

_decode = msgspec.json.Decoder(NamedResult).decode


class NamedResults:
    """Follows output topics, each from its last results on, in a thread of its own."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._plain = Results(config).plain
        self._readers: dict[str, Reader] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ids")

    async def read(self, pipeline: str, patience_s: float) -> tuple[list[tuple[str, Place]], bool]:
        """Results that came since, with their ids, and whether there are no more now. Takes so long at most, and some
        longer at first. Raises StreamerError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, pipeline, patience_s)

    def close(self) -> None:
        """Close the readers when what is being read is, without waiting for that."""
        for reader in self._readers.values():
            self._thread.submit(reader.close)
        self._thread.shutdown(wait=False)

    def _read(self, pipeline: str, patience_s: float) -> tuple[list[tuple[str, Place]], bool]:
        config, end_s = self._config.pipelines[pipeline], time.monotonic() + patience_s
        reader, poll_s = self._readers.get(pipeline), _POLL_S
        if reader is None:
            reader = self._readers[pipeline] = Reader(self._config.kafka, [config.output], start=MOST_IDS)
            poll_s, end_s = _FIRST_S, end_s + _FIRST_S
        found: list[tuple[str, Place]] = []
        topics = {topic: topic for topic in config.input}  # names that are in memory once
        while time.monotonic() < end_s:
            records = reader.poll(poll_s)
            if not records:
                return found, True
            for record in records:
                try:
                    named = _decode(self._plain(record))
                except (msgspec.DecodeError, UnicodeDecodeError):  # another program's
                    continue
                topic = topics.get(named.source.topic)
                if topic is not None:
                    found.append((named.id, Place(pipeline, topic, named.source.partition, named.source.offset)))
        return found, False
