"""Spans over HTTP to a receiver that misbehaves: nothing is lost that it would take, nobody waits, all is counted."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from streamer.config.otel import Otel
from streamer.telemetry.otlp import OtlpEncoder
from streamer.telemetry.otlp_http import MAX_WAITING_BYTES, OtlpHttp, problem_of
from streamer.telemetry.spans import RecordSpan
from tests.acceptance.certificates import make_certificates
from tests.otlp_receiver import OK, OtlpReceiver, otlp_receiver
from tests.waiting import wait_for

SPAN = RecordSpan(5, 6, 7, 1, 2, "t", 0, 3, "result")
((MESSAGE, _),) = OtlpEncoder("slot-0", "1").encode([SPAN])


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


class Outlet:
    """An `OtlpHttp` and what it counted; its pauses are short."""

    def __init__(self, **otel: Any) -> None:
        self.counts = {"sent": 0, "rejected": 0, "dropped": 0}
        self.pauses: list[int] = []
        self.http = OtlpHttp(Otel(**otel), self.count, self.pause)

    def count(self, outcome: str, spans: int) -> None:
        self.counts[outcome] += spans

    def pause(self, attempt: int) -> float:
        self.pauses.append(attempt)
        return 0.01

    def ends_with(self, within_s: float = 10.0, **counts: int) -> bool:
        self.http.close(within_s)
        return self.counts == {"sent": 0, "rejected": 0, "dropped": 0, **counts}


def test_each_message_is_a_request_over_one_connection(receiver: OtlpReceiver) -> None:
    """As it would lie on the topic, with the headers that were asked for."""
    outlet = Outlet(endpoint=receiver.url, headers={"api-key": "k"})
    for _ in range(5):
        assert outlet.http.send(MESSAGE, 1)
    assert outlet.ends_with(sent=5)
    assert receiver.connections == 1
    path, headers, body = receiver.requests[-1]
    assert (path, headers["content-type"], headers["api-key"]) == ("/v1/traces", "application/x-protobuf", "k")
    assert body == MESSAGE
    (resource_spans,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert resource_spans.scope_spans[0].spans[0].span_id == (6).to_bytes(8, "big")


def test_gzip(receiver: OtlpReceiver) -> None:
    """Compressed where that is asked for, and said so."""
    outlet = Outlet(endpoint=receiver.url, gzip=True)
    outlet.http.send(MESSAGE, 1)
    assert outlet.ends_with(sent=1)
    _, headers, body = receiver.requests[0]
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == MESSAGE


@pytest.mark.case(36)
def test_what_may_pass_is_tried_again(receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    """Not available, too many, a reset, then taken: once, with a pause that grows, and said so in the log."""
    receiver.script = [(503, {}, b"no"), (429, {}, b""), reset, OK]
    outlet = Outlet(endpoint=receiver.url)
    outlet.http.send(MESSAGE, 3)
    wait_for(lambda: outlet.counts["sent"] == 3)
    outlet.http.send(MESSAGE, 1)
    assert outlet.ends_with(sent=4)
    assert [body for _, _, body in receiver.requests] == [MESSAGE] * 5
    assert outlet.pauses[:2] == [1, 2]
    assert "they are tried again" in caplog.text


def test_the_receiver_says_when(receiver: OtlpReceiver) -> None:
    """Retry-After holds in place of our own pause; at the end nobody waits for it."""
    receiver.script = [(503, {"Retry-After": "0"}, b""), OK, (429, {"Retry-After": "30"}, b"")]
    outlet = Outlet(endpoint=receiver.url)
    outlet.http.send(MESSAGE, 1)
    wait_for(lambda: outlet.counts["sent"] == 1)
    assert not outlet.pauses
    outlet.http.send(MESSAGE, 1)
    wait_for(lambda: len(receiver.requests) == 3)
    began = time.monotonic()
    outlet.http.close(5.0)
    assert time.monotonic() - began < 4
    assert sum(outlet.counts.values()) == 2


def test_what_will_not_pass_is_dropped_at_once(receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong path, a wrong key, a redirect: counted, and the log names the answer."""
    receiver.script = [(404, {}, b"?"), (401, {}, b""), (302, {"Location": "http://127.0.0.1:1/"}, b"")]
    outlet = Outlet(endpoint=receiver.url)
    for _ in range(3):
        outlet.http.send(MESSAGE, 2)
    assert outlet.ends_with(dropped=6)
    assert len(receiver.requests) == 3
    assert {record.data["reason"] for record in caplog.records} == {"HTTP 404", "HTTP 401", "HTTP 302"}  # type: ignore[attr-defined]


def test_what_the_receiver_rejects_is_counted(receiver: OtlpReceiver) -> None:
    """A partial success is not tried again."""
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 2
    receiver.script = [(200, {}, partial.SerializeToString()), (200, {}, b"\xff not protobuf")]
    outlet = Outlet(endpoint=receiver.url)
    outlet.http.send(MESSAGE, 5)
    outlet.http.send(MESSAGE, 5)
    assert outlet.ends_with(sent=8, rejected=2)
    assert len(receiver.requests) == 2


@pytest.mark.case(36)
def test_a_slow_receiver_delays_nobody(receiver: OtlpReceiver) -> None:
    """Sending returns at once, a full queue drops and counts, and the end comes within its deadline."""
    release = threading.Event()
    receiver.script = [lambda _: (release.wait(20), OK)[1]] * 10
    outlet = Outlet(endpoint=receiver.url, timeout_s=15.0)
    try:
        outlet.http.send(MESSAGE, 1)
        wait_for(lambda: len(receiver.requests) == 1)
        large = bytes(1_000_000)
        began = time.monotonic()
        taken = [outlet.http.send(large, 10) for _ in range(20)]
        assert taken == [True] * (MAX_WAITING_BYTES // len(large)) + [False] * 4
        assert outlet.counts["dropped"] == 40
        outlet.http.close(0.2)
        assert time.monotonic() - began < 10
        assert outlet.counts == {"sent": 0, "rejected": 0, "dropped": 201}
    finally:
        release.set()


def test_an_answer_that_does_not_come_is_given_up(receiver: OtlpReceiver) -> None:
    """After the timeout of one request it is sent again."""
    release = threading.Event()
    receiver.script = [lambda _: (release.wait(20), None)[1], OK]
    outlet = Outlet(endpoint=receiver.url, timeout_s=0.1)
    try:
        outlet.http.send(MESSAGE, 1)
        wait_for(lambda: outlet.counts["sent"] == 1)
        assert outlet.pauses == [1]
    finally:
        release.set()
    assert outlet.ends_with(sent=1)


def test_nobody_listens() -> None:
    """At the end what waits is counted, and nothing is raised."""
    outlet = Outlet(endpoint="http://127.0.0.1:9/v1/traces")
    outlet.http.send(MESSAGE, 1)
    wait_for(lambda: bool(outlet.pauses))
    assert outlet.ends_with(0.1, dropped=1)


def test_tls_with_certificates_of_both_sides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An authority that is named is trusted, and the client proves who it is; an unknown authority is not."""
    files = make_certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.authority))
    tls.load_cert_chain(files.certificate, files.key)
    tls.verify_mode = ssl.CERT_REQUIRED
    own = {"client_certificate": str(files.certificate), "client_key": str(files.key)}
    with otlp_receiver(tls) as receiver:
        outlet = Outlet(endpoint=receiver.url, certificate=str(files.authority), **own)
        outlet.http.send(MESSAGE, 1)
        assert outlet.ends_with(sent=1)
        stranger = Outlet(endpoint=receiver.url, **own)
        stranger.http.send(MESSAGE, 1)
        wait_for(lambda: bool(stranger.pauses))
        assert stranger.ends_with(0.1, dropped=1)
        assert [body for _, _, body in receiver.requests] == [MESSAGE]
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in str(
        [record.data for record in caplog.records if hasattr(record, "data")]
    )
    with pytest.raises(OSError):
        Outlet(endpoint=receiver.url, **{**own, "client_certificate": str(files.authority)})


def test_a_receiver_can_be_asked_without_a_span(receiver: OtlpReceiver) -> None:
    """Whether it takes requests here, with these headers."""
    receiver.script = [OK, (401, {}, b"")]
    assert problem_of(Otel(endpoint=receiver.url, headers={"api-key": "k"})) == ""
    assert problem_of(Otel(endpoint=receiver.url)) == "HTTP 401"
    assert problem_of(Otel(endpoint="http://127.0.0.1:9/")) == "ConnectionRefusedError"
    assert [body for _, _, body in receiver.requests] == [b"", b""]
