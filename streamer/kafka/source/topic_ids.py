"""Topics that were deleted and recreated while we read them.

The client goes on at the old position in the new topic: it skips as many of its first records as the old one had, and
no call says so. What it does tell, in its debug log and nowhere else, is that a topic has another id. That line is
handed over between the last record of the old topic and the first of the new one, by the same call that hands over the
records (librdkafka 2.16.0; `tests/integration/test_reading.py` fails where that changes).
"""

from __future__ import annotations

import logging
import re

DEBUG = "topic"
"""The part of the client's debug log that has the line: a few lines for each change of a partition, none a record."""

_CHANGED = re.compile(r"Topic (\S+) changed id from (\S+) to ")
_NONE = "A" * 22  # the id before the first one is heard of


class TopicIds(logging.Handler):
    """Listens to what a client writes to `logger`, and hands it on to the client's usual log. `changed` are the topics
    that have become others, for the owner of the client to take. Debug lines go on only where people asked for some."""

    def __init__(self, *, debug: bool = False) -> None:
        super().__init__()
        self.changed: set[str] = set()
        self.logger = logging.Logger("streamer.kafka.client")
        self.logger.addHandler(self)
        self._log = logging.getLogger(self.logger.name)
        self._least = logging.DEBUG if debug else logging.DEBUG + 1

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of the client's."""
        if record.levelno <= logging.DEBUG and (found := _CHANGED.search(record.getMessage())):
            topic, before = found.groups()
            if before != _NONE:
                self.changed.add(topic)
        if record.levelno >= self._least and self._log.isEnabledFor(record.levelno):
            self._log.handle(record)
