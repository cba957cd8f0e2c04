"""OTLP over HTTP: messages of spans as POST requests, from a thread of its own.

Nobody waits for the receiver: what does not fit into the queue, or is not taken within a minute of trying, is dropped
and counted. https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import gzip
import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from streamer import __version__
from streamer.config.otel import Otel
from streamer.config.url import redacted_url
from streamer.telemetry.spans import OnSpans

MAX_WAITING_BYTES: Final = 16_000_000
GIVE_UP_S: Final = 60.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 20.0
RETRIED: Final = frozenset({429, 502, 503, 504})
_MAX_ANSWER_BYTES: Final = 65_536

_log = logging.getLogger(__name__)


class _Answer(NamedTuple):
    """How a request ended: `problem` is empty where it was taken; `again` asks to repeat it, after `pause_s` where the
    receiver said so."""

    problem: str = ""
    again: bool = False
    pause_s: float | None = None
    rejected: int = 0


class OtlpHttp:
    """Sends messages of spans to `otel.endpoint`; `on_spans` is told of those `sent`, `rejected` by the receiver, and
    `dropped`. Nothing here raises or blocks, but for the making of it: OSError where a certificate can't be used."""

    def __init__(self, otel: Otel, on_spans: OnSpans, pauses: Callable[[int], float] | None = None) -> None:
        self._address = redacted_url(otel.endpoint)
        self._receiver = _Receiver(otel)
        self._on_spans = on_spans
        self._pause_s = pauses or _pause_s
        self._failing = False
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._waiting_bytes = 0
        self._in_hand = 0
        self._ends_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def send(self, message: bytes, spans: int) -> bool:
        """Queue one message with so many spans; False, and they are counted as dropped, where there is no room."""
        with self._changed:
            taken = self._ends_at == float("inf") and self._waiting_bytes + len(message) <= MAX_WAITING_BYTES
            if taken:
                self._waiting.append((message, spans))
                self._waiting_bytes += len(message)
                self._changed.notify_all()
        if not taken:
            self._on_spans("dropped", spans)
        return taken

    def close(self, timeout_s: float) -> None:
        """Send what waits for at most `timeout_s`; drop and count the rest."""
        with self._changed:
            self._ends_at = time.monotonic() + timeout_s
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            left = self._in_hand + sum(spans for _, spans in self._waiting)
            self._waiting.clear()
            self._in_hand = 0  # should the receiver answer after all, it is not counted twice
        if left:
            self._on_spans("dropped", left)
            _log.warning("spans were left unsent at the end", extra={"data": {"address": self._address, "count": left}})

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._ends_at < float("inf"):
                        self._receiver.close()
                        return
                    self._changed.wait()
                message, spans = self._waiting.popleft()
                self._waiting_bytes -= len(message)
                self._in_hand = spans
            try:
                self._export(self._receiver.packed(message))
            except Exception as error:  # telemetry never fails the job
                self._ended("dropped")
                _log.warning("spans were not sent", extra={"data": {"error": type(error).__name__}})

    def _export(self, body: bytes) -> None:
        """Send one message, again and again where that may help."""
        began = time.monotonic()
        attempt = 0
        while (answer := self._receiver.post(body)).problem:
            attempt += 1
            pause_s = self._pause_s(attempt) if answer.pause_s is None else answer.pause_s
            again_at = time.monotonic() + pause_s
            if not answer.again or again_at > min(began + GIVE_UP_S, self._ends_at):
                self._ended("dropped")
                self._say("spans were dropped", answer)
                return
            if pause_s:
                self._say("spans can't be sent; they are tried again", answer)
            with self._changed:
                self._changed.wait_for(partial(self._ends_before, again_at), pause_s)
        self._ended("sent", answer.rejected)
        if answer.rejected:
            data = {"address": self._address, "count": answer.rejected}
            _log.warning("the receiver rejected spans", extra={"data": data})
        if self._failing:
            self._failing = False
            _log.info("spans are sent again", extra={"data": {"address": self._address}})

    def _ends_before(self, moment: float) -> bool:
        return self._ends_at < moment

    def _say(self, what: str, answer: _Answer) -> None:
        self._failing = True
        _log.warning(what, extra={"data": {"address": self._address, "reason": answer.problem}})

    def _ended(self, outcome: str, rejected: int = 0) -> None:
        with self._changed:
            spans, self._in_hand = self._in_hand, 0
        rejected = min(rejected, spans)
        if spans > rejected:
            self._on_spans(outcome, spans - rejected)
        if rejected:
            self._on_spans("rejected", rejected)


def problem_of(otel: Otel) -> str:
    """Why the receiver at `otel.endpoint` does not take a request without spans, "" where it does."""
    try:
        receiver = _Receiver(otel)
    except OSError as error:
        return error.strerror or type(error).__name__
    answer = receiver.post(receiver.packed(b""))
    receiver.close()
    return answer.problem


class _Receiver:
    """The way to the receiver: a connection that is kept, and reopened where it was lost."""

    def __init__(self, otel: Otel) -> None:
        parts = urlsplit(otel.endpoint)
        self._path = parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl()
        self._connection = _connection(otel)
        self._headers = {
            "User-Agent": f"streamer/{__version__}",
            "Content-Type": "application/x-protobuf",
            **otel.headers,
        }
        self._gzip = otel.gzip
        if otel.gzip:
            self._headers["Content-Encoding"] = "gzip"

    def packed(self, message: bytes) -> bytes:
        """The body of a request with this message."""
        return gzip.compress(message, 6, mtime=0) if self._gzip else message

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def post(self, body: bytes) -> _Answer:
        """Send one request. Raises nothing."""
        kept_alive = self._connection.sock is not None
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            content = response.read(_MAX_ANSWER_BYTES)
            if not response.isclosed():
                self._connection.close()
            return _judged(response, content)
        except ssl.SSLCertVerificationError:
            self._connection.close()
            return _Answer("its certificate is not trusted; see OTEL_EXPORTER_OTLP_CERTIFICATE", again=True)
        except (OSError, HTTPException) as error:
            self._connection.close()
            # A connection that was kept open may have been closed by now: that is no failure of the receiver.
            stale = kept_alive and isinstance(error, ConnectionError)
            return _Answer(type(error).__name__, again=True, pause_s=0.0 if stale else None)


def _connection(otel: Otel) -> HTTPConnection:
    parts = urlsplit(otel.endpoint)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return HTTPConnection(host, parts.port, timeout=otel.timeout_s)
    context = ssl.create_default_context(cafile=otel.certificate or None)
    if otel.client_certificate:
        context.load_cert_chain(otel.client_certificate, otel.client_key, password="")
    return HTTPSConnection(host, parts.port, timeout=otel.timeout_s, context=context)


def _judged(response: HTTPResponse, content: bytes) -> _Answer:
    if 200 <= response.status < 300:
        rejected = 0
        with suppress(Exception):  # what else may stand there says nothing of our spans
            rejected = ExportTraceServiceResponse.FromString(content).partial_success.rejected_spans
        return _Answer(rejected=rejected)
    again = response.status in RETRIED
    return _Answer(
        f"HTTP {response.status}", again, _retry_after_s(response.getheader("Retry-After")) if again else None
    )


def _retry_after_s(text: str | None) -> float | None:
    """Seconds, or a date; None where there is neither."""
    if not text:
        return None
    with suppress(ValueError):
        if text.strip().isdecimal():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _pause_s(attempt: int) -> float:
    """Longer each time, and never the same for all who wait."""
    return float(min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))
