"""Spans as values, and the thread that sends them on."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

MAX_BATCH_SPANS: Final = 512
MAX_DELAY_S: Final = 1.0
MAX_WAITING: Final = 65_536
_BYTES_A_SPAN: Final = 336

_log = logging.getLogger(__name__)


class Link(msgspec.Struct, frozen=True, gc=False):
    """A record of a micro-batch that came with a context of its producer: the ids are that context's."""

    trace_id: int
    span_id: int
    topic: str
    partition: int
    offset: int


class MicroBatchSpan(msgspec.Struct, frozen=True):
    """From the taking of a micro-batch until all its records are durable or dropped.

    Ids are integers of 128 and 64 bits, times nanoseconds since the epoch. `counts` become the attributes
    `streamer.{name}`: results, dead_letters, skipped, cached ….
    """

    trace_id: int
    span_id: int
    start_ns: int
    end_ns: int
    pipeline: str
    topics: tuple[str, ...]
    group: str
    record_count: int
    links: Sequence[Link] = ()
    counts: dict[str, int] = {}


class RecordSpan(msgspec.Struct, frozen=True):
    """One record's way, child of its producer's context. `code` is the dead letter's code, "" for none."""

    trace_id: int
    span_id: int
    parent_span_id: int
    start_ns: int
    end_ns: int
    topic: str
    partition: int
    offset: int
    outcome: str
    code: str = ""


class ForwardSpan(msgspec.Struct, frozen=True):
    """One pass of a forward batch in a worker, child of the span of a micro-batch that it served, with links to those
    of the others. `parent` and `links` are the ids of a trace and a span, as 16 and 8 bytes; `attributes` lie over
    those that the encoder gives it."""

    parent: bytes
    span_id: bytes
    links: Sequence[bytes]
    start_ns: int
    end_ns: int
    pipeline: str
    worker: int
    records: int
    tokens: int
    output_tokens: int = 0
    error: str = ""
    attributes: Mapping[str, str | int] = {}


class ToolSpan(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool did: a request, a replay, a judgement. `links` are the contexts of the records that it handled;
    `error` is the class of what went wrong, "" for nothing. `remote` says that its parent is another program's."""

    name: str
    trace_id: int
    span_id: int
    start_ns: int
    end_ns: int
    parent_span_id: int = 0
    remote: bool = False
    kind: Literal["internal", "producer", "server"] = "internal"
    attributes: Mapping[str, str | int] = {}
    links: Sequence[Link] = ()
    error: str = ""


class EncodedSpans(msgspec.Struct, frozen=True):
    """So many spans that somebody else made, as an OTLP request."""

    message: bytes
    count: int


Span = MicroBatchSpan | RecordSpan | ForwardSpan | ToolSpan | EncodedSpans


def resource_of(slot: str, version: str, more: Mapping[str, str]) -> dict[str, str]:
    """What is told of the process with each span: its stable identity and the version of the program, unless `more`
    says otherwise."""
    return {"service.name": "streamer", "service.version": version, "service.instance.id": slot, **more}


class Encoder(Protocol):
    """Makes messages of spans."""

    def encode(self, spans: Sequence[Span]) -> list[tuple[bytes, int]]:
        """Messages that hold all of the spans, each with the number of spans in it."""


OnSpans = Callable[[str, int], None]
"""Called with `sent` or `dropped` and a number of spans, from the exporter's thread or the caller's."""


Send = Callable[[bytes, int], bool]
"""Gives a message with so many spans to the wire; whether it was taken."""


class SpanExporter:
    """Sends spans from a thread of its own, once 512 wait or after a second.

    `send` gives one message to the wire, with the number of spans in it, and says whether it was taken; it may block.
    Spans that find the queue full
    (65,536 spans and links together) or that are not taken are dropped and counted. Nothing here raises.
    """

    def __init__(self, send: Send, encoder: Encoder, on_spans: OnSpans) -> None:
        self._send = send
        self._encoder = encoder
        self._on_spans = on_spans
        self._lock = threading.Condition()
        self._waiting: deque[Span] = deque()
        self._waiting_size = 0
        self._oldest_at = 0.0
        self._sending = False
        self._flushing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def offer(self, spans: Sequence[Span]) -> None:
        """Queue the spans, or drop and count those that find no room. Returns at once."""
        taken = 0
        with self._lock:
            if not self._closed:
                for span in spans:
                    size = _size(span)
                    if self._waiting_size + size > MAX_WAITING:
                        break
                    if not self._waiting:
                        self._oldest_at = time.monotonic()
                        self._lock.notify_all()
                    self._waiting.append(span)
                    self._waiting_size += size
                    taken += 1
                if len(self._waiting) >= MAX_BATCH_SPANS:
                    self._lock.notify_all()
        if taken < len(spans):
            self._on_spans("dropped", _count(spans[taken:]))

    def flush(self, timeout_s: float) -> bool:
        """Send what waits now; whether all of it went out in time."""
        with self._lock:
            self._flushing = True
            self._lock.notify_all()
            return self._lock.wait_for(lambda: not self._waiting and not self._sending, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Send what waits for at most `timeout_s`, drop and count the rest."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            dropped = _count(self._waiting)
            self._waiting.clear()
        if dropped:
            self._on_spans("dropped", dropped)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._sending = False
                self._lock.notify_all()
                while not self._due():
                    if self._closed:
                        return
                    self._lock.wait(self._oldest_at + MAX_DELAY_S - time.monotonic() if self._waiting else None)
                count = min(len(self._waiting), MAX_BATCH_SPANS)
                batch = [self._waiting.popleft() for _ in range(count)]
                self._waiting_size -= sum(map(_size, batch))
                self._sending = True
            self._send_all(batch)

    def _due(self) -> bool:
        if not self._waiting:
            self._flushing = False
            return False
        if self._flushing or self._closed or len(self._waiting) >= MAX_BATCH_SPANS:
            return True
        return time.monotonic() >= self._oldest_at + MAX_DELAY_S

    def _send_all(self, batch: list[Span]) -> None:
        sent = 0
        try:
            for message, spans in self._encoder.encode(batch):
                if self._send(message, spans):
                    sent += spans
        except Exception as error:  # telemetry never fails the job
            _log.warning("spans were not sent", extra={"data": {"error": type(error).__name__}})
        if sent:
            self._on_spans("sent", sent)
        if sent < (total := _count(batch)):
            self._on_spans("dropped", total - sent)


def _count(spans: Iterable[Span]) -> int:
    return sum(span.count if type(span) is EncodedSpans else 1 for span in spans)


def _size(span: Span) -> int:
    if isinstance(span, EncodedSpans):
        return 1 + len(span.message) // _BYTES_A_SPAN
    return 1 if isinstance(span, RecordSpan) else 1 + len(span.links)
