"""Reports that this member started or ended, in the topic of the reports: `streamer changes` tells of them."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from typing import Final

import msgspec

from streamer import __version__
from streamer.config.load import Config, redacted
from streamer.config.pipeline import DEFAULTS
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.report import UNKNOWN, Event, Origin, event_report
from streamer.errors import ExitCode, StreamerError
from streamer.kafka.span_topic import SpanTopic

CLOSE_S: Final = 2.0
MAX_REASON_CHARS: Final = 500
MAX_SETTING_CHARS: Final = 200
DIGEST_CHARS: Final = 12

log = logging.getLogger(__name__)


def _digest_of(config: Config, name: str) -> str:
    """Another one where a setting of the pipeline is another; secrets do not count, which could be guessed from it."""
    found = msgspec.json.encode(redacted(config)["pipelines"][name], order="sorted")
    return hashlib.sha256(found).hexdigest()[:DIGEST_CHARS]


def _settings_of(config: Config, name: str) -> dict[str, str]:
    """Those that differ from the defaults, as JSON, secrets hidden and long ones cut."""
    shown = redacted(config)["pipelines"][name]
    return {
        field: msgspec.json.encode(value, order="sorted").decode()[:MAX_SETTING_CHARS]
        for field, value in shown.items()
        if value not in ([], {}) and value != DEFAULTS.get(field)
    }


def origin_of(config: Config, name: str, member: str) -> Origin:
    """What the reports of this process say of it."""
    return Origin(member, __version__, _digest_of(config, name))


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
        event = Event("started", _settings_of(self._config, self._name))
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
