"""Pipelines that say nothing while records wait for them. Silence alone is no fault: an input may have nothing new."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from streamer.config.load import Config
from streamer.errors import ConfigurationError
from streamer.kafka.lag import GroupOffsets

log = logging.getLogger(__name__)


class Silence:
    """Asks the brokers; blocks, and may raise what GroupOffsets raises."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._waiting_since: dict[str, tuple[float, int]] = {}

    def look(self, newest_ms: Mapping[str, int]) -> dict[str, float]:
        """For how many seconds each pipeline has had records waiting and settled none, 0 where none wait. Only where it
        was seen: what was before this app's start is not counted. Those that can't be looked at are left out."""
        offsets = GroupOffsets(self._config.kafka)
        found: dict[str, float] = {}
        for name, pipeline in self._config.pipelines.items():
            try:
                views = offsets.views(pipeline.group, pipeline.input, pipeline.start)
            except ConfigurationError as error:  # this pipeline's topic or right; the others have theirs
                self._waiting_since.pop(name, None)
                data = {"pipeline": name, "error": str(error)}
                log.warning("whether a pipeline is silent is unknown", extra={"data": data})
                continue
            waiting = sum(view.records for view in views)
            newest = newest_ms.get(name, 0)
            since, known = self._waiting_since.get(name, (time.monotonic(), newest))
            if not waiting or newest != known:
                since = time.monotonic()
            self._waiting_since[name] = since, newest
            found[name] = time.monotonic() - since if waiting else 0.0
        return found
