"""Reports that this member started or ended, in the topic of the reports: `streamer changes` tells of them."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from streamer import __version__
from streamer.app.settings import digest_of, settings_of
from streamer.config.load import Config
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.report import UNKNOWN, Event, Origin, event_report
from streamer.errors import ExitCode, StreamerError
from streamer.kafka.span_topic import SpanTopic

CLOSE_S: Final = 2.0
MAX_REASON_CHARS: Final = 500

log = logging.getLogger(__name__)


def origin_of(config: Config, name: str, member: str) -> Origin:
    """What the reports of this process say of it."""
    return Origin(member, __version__, digest_of(config, name))


class Announcer:
    """Writes by a producer of its own, on threads of its own: what the brokers do not take is left out."""

    def __init__(self, config: Config, name: str, member: str) -> None:
        self._config = config
        self._name = name
        self._origin = origin_of(config, name, member)
        self._card: ModelCard | None = None
        self._topic: SpanTopic | None = None
        self._thread: threading.Thread | None = None

    def started(self, card: ModelCard) -> None:
        """The model is loaded. Returns at once."""
        if not self._config.telemetry.reports:
            return
        self._card = card
        event = Event("started", settings_of(self._config, self._name))
        self._thread = threading.Thread(target=self._send, args=(event, card), name="announcer", daemon=True)
        self._thread.start()

    def ended(self, exit_code: int, reason: str) -> None:
        """Returns once it is written, or `CLOSE_S` have passed; nothing is said of one that was stopped before its
        model was loaded, or whose brokers are away."""
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        elif exit_code in (ExitCode.DONE, ExitCode.DEPENDENCY) or not self._config.telemetry.reports:
            return
        pipeline = self._config.pipelines[self._name]
        card = self._card or ModelCard(pipeline.model, UNKNOWN, pipeline.task, "", "")
        self._send(Event("ended", {}, int(exit_code), reason[:MAX_REASON_CHARS]), card)
        if self._topic is not None:
            self._topic.close(CLOSE_S)

    def _send(self, event: Event, card: ModelCard) -> None:
        task = self._config.pipelines[self._name].task
        report = event_report(
            pipeline=self._name,
            task=task,
            card=card,
            origin=self._origin,
            event=event,
            time_ms=time.time_ns() // 1_000_000,
        )
        _, _, key, value, _ = report.output(self._config.telemetry.reports)
        try:
            self._topic = self._topic or SpanTopic(self._config.kafka, self._config.telemetry.reports)
        except StreamerError as error:
            log.debug(
                "this member's start or end could not be reported", extra={"data": {"error": type(error).__name__}}
            )
            return
        self._topic.send(value or b"", key)
