"""Who answers in place of a service is named, with the setting that is wrong: real servers at the wrong addresses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from streamer.cache.inspect import inspect
from streamer.config.fields import KafkaConfig
from streamer.config.load import CacheConfig, Config, PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.core.surroundings import ModelInfo, PeerInfo
from streamer.errors import DependencyError
from streamer.kafka.announced import places_of
from streamer.machine.peer import look_at_peer
from streamer.ops.doctor import cluster
from streamer.ops.doctor.cache import judge
from streamer.ops.doctor.examine import _of_its_server, _outlet, _registry, _unreached
from streamer.ops.doctor.peers import explain
from tests.acceptance.certificates import make_certificates
from tests.acceptance.tls_proxy import TlsProxy
from tests.conftest import Kafka, Redis

HOST = "127.0.0.1"
Places = dict[str, tuple[str, int]]
ALL = ("Kafka", "Redis", "HTTP")


class Page(BaseHTTPRequestHandler):
    """A page for people, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka, redis: Redis) -> Iterator[Places]:
    """A host and port by who answers there."""
    with ExitStack() as stack:
        web = stack.enter_context(ThreadingHTTPServer((HOST, 0), Page))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        stack.callback(web.shutdown)
        mute = stack.enter_context(socket.create_server((HOST, 0)))
        found = {
            "Kafka": (HOST, int(kafka.bootstrap_servers.rpartition(":")[2])),
            "Redis": (HOST, int(redis.url.rpartition(":")[2].partition("/")[0])),
            "HTTP": (HOST, web.server_port),
            "mute": (HOST, mute.getsockname()[1]),
            "nobody": (HOST, 1),
            "no name": ("no-such-host.invalid", 1),
        }
        certificates = make_certificates(tmp_path_factory.mktemp("tls"))
        for name in ALL:
            proxy = stack.enter_context(TlsProxy(found[name][1], certificates))
            found[f"{name} over TLS"] = (HOST, proxy.port)
        yield found


@cache
def looked(host: str, port: int) -> PeerInfo:
    """Each is looked at once: somebody who says nothing takes time."""
    return look_at_peer(host, port, first="HTTP")


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ops.doctor.examine", "cache.inspect"):
        monkeypatch.setattr(f"streamer.{module}.look_at_peer", lambda host, port, **_: looked(host, port))


@pytest.mark.parametrize("name", [*ALL, *(f"{one} over TLS" for one in ALL), "mute"])
def test_who_is_there(places: Places, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "mute":
        monkeypatch.setattr("streamer.machine.peer.WAIT_S", 0.2)
    peer = looked(*places[name])
    speaks = "" if name == "mute" else name.partition(" ")[0]
    assert (peer.speaks, peer.tls, bool(peer.certificate)) == (speaks, "TLS" in name, "TLS" in name)
    assert (peer.resolves, peer.refusal, peer.mechanisms) == (True, "", ())


@pytest.mark.parametrize("host", ["", "a" * 300, "ü..x", "no-such-host.invalid"])
def test_a_name_that_can_be_none_does_not_resolve(host: str) -> None:
    assert not look_at_peer(host, 9092, first="Kafka").resolves


def told_of_kafka(place: tuple[str, int], protocol: str) -> tuple[str, str]:
    kafka = KafkaConfig(bootstrap_servers=f"{place[0]}:{place[1]}", properties={"security.protocol": protocol})
    found = _unreached(kafka, DependencyError("Kafka at x does not answer; start it"))
    return found.what, found.fix


@pytest.mark.parametrize(
    ("name", "protocol", "what", "fix"),
    [
        ("Redis", "PLAINTEXT", "a Redis answers at", "correct kafka.bootstrap_servers"),
        ("HTTP", "SSL", "an HTTP server answers at", "correct kafka.bootstrap_servers"),
        ("Kafka over TLS", "PLAINTEXT", "speaks TLS", "set security.protocol to SSL or SASL_SSL"),
        ("Kafka", "SASL_SSL", "does not speak TLS", "set security.protocol to PLAINTEXT or SASL_PLAINTEXT"),
        ("mute", "SSL", "does not answer as a Kafka broker does", "look at what listens there"),
        ("nobody", "PLAINTEXT", "(Connection refused)", "start it, or correct kafka.bootstrap_servers"),
        ("no name", "PLAINTEXT", "does not resolve", "correct kafka.bootstrap_servers"),
        ("Kafka", "PLAINTEXT", "Kafka at x does not answer", "start it"),  # nothing that was seen explains it
    ],
)
def test_kafka(places: Places, name: str, protocol: str, what: str, fix: str) -> None:
    told = told_of_kafka(places[name], protocol)
    assert what in told[0] and told[1].startswith(fix), told


def test_bootstrap_addresses_are_read_as_the_client_reads_them() -> None:
    found = places_of("a:1, SSL://b,[::1]:2,[::1]")
    assert found == [("a", 1), ("b", 9092), ("::1", 2), ("::1", 9092)]


def test_a_listener_that_asks_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = PeerInfo("k:9092", speaks="Kafka", mechanisms=("PLAIN", "SCRAM-SHA-256"))
    monkeypatch.setattr("streamer.ops.doctor.examine.look_at_peer", lambda *_, **__: peer)
    what, fix = told_of_kafka(("k", 9092), "plaintext")
    assert (what, "SASL_PLAINTEXT" in fix) == ("it asks for a login (PLAIN, SCRAM-SHA-256)", True)
    assert told_of_kafka(("k", 9092), "sasl_plaintext")[1] == "start it"


@pytest.mark.parametrize(
    ("name", "url", "what", "fix"),
    [
        ("Redis", "rediss://{}", "does not speak TLS", "write redis://"),
        ("Redis", "redis://{}/99", "no database of that number", "name one from 0 to 15"),
        ("Redis", "redis+cluster://{}", "it is a Redis, but no cluster", "write redis://"),
        ("Redis", "redis+sentinel://{}/primary", "it is a Redis, but no sentinel", "write redis://"),
        ("Redis", "redis://:hunter2@{}", "it asks for none", "leave user and password out"),
        ("Redis over TLS", "redis://{}", "speaks TLS", "write rediss://"),
        ("Redis over TLS", "rediss://{}", "certificate is not trusted", "name the file of its CA"),
        ("Kafka", "redis+cluster://{}", "a Kafka broker answers", "correct cache.url"),
        ("HTTP", "redis+sentinel://{}/primary", "an HTTP server answers", "correct cache.url"),
        ("HTTP over TLS", "rediss://{}", "an HTTP server answers", "correct cache.url"),
        ("mute", "redis://{}", "does not answer as a Redis does", "look at what listens there"),
        ("nobody", "redis://{}", "(Connection refused)", "start it"),
        ("no name", "redis+cluster://{}", "does not resolve", "correct cache.url"),
    ],
)
def test_redis(places: Places, name: str, url: str, what: str, fix: str) -> None:
    found = list(judge(inspect(CacheConfig(url=url.format(":".join(map(str, places[name])))))))
    assert any(what in one.what and one.fix.startswith(fix) for one in found), found
    assert "hunter2" not in str(found)


def test_sockets(tmp_path: Path) -> None:
    (found,) = judge(inspect(CacheConfig(url=f"unix://{tmp_path}/redis.sock")))
    assert "(No such file or directory)" in found.what


@pytest.mark.parametrize(
    ("name", "scheme", "what", "fix"),
    [
        ("HTTP", "http", "is no schema registry (its answer is no JSON)", "correct schema_registry.url"),
        ("HTTP", "https", "does not speak TLS", "write http://"),
        ("HTTP over TLS", "http", "speaks TLS", "write https://"),
        ("HTTP over TLS", "https", "certificate is not trusted", "name the file of its CA in schema_registry.ca_file"),
        ("Kafka", "http", "a Kafka broker answers", "correct schema_registry.url"),
        ("nobody", "http", "(Connection refused)", "start it"),
        ("no name", "http", "does not resolve", "correct schema_registry.url"),
    ],
)
def test_registry(places: Places, name: str, scheme: str, what: str, fix: str) -> None:
    url = f"{scheme}://{places[name][0]}:{places[name][1]}"
    config = Config(schema_registry=SchemaRegistryConfig(url=url))
    pipeline = PipelineConfig(task="t", model="m", input=["i"], output="o", input_format="avro")
    (check,) = _registry(config, {"p": pipeline})
    assert what in check.findings[0].what and check.findings[0].fix.startswith(fix), check.findings


def test_several_registries(places: Places) -> None:
    urls = [f"http://{HOST}:1", f" http://{HOST}:{places['Kafka'][1]}"]
    config = Config(schema_registry=SchemaRegistryConfig(url=",".join(urls)))
    pipeline = PipelineConfig(task="t", model="m", input=["i"], output="o", input_format="avro")
    (check,) = _registry(config, {"p": pipeline})
    assert "a Kafka broker answers" in check.findings[0].what, check.findings


def test_who_is_asked_through_a_proxy_need_not_answer_here(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = PipelineConfig(task="t", model="http://no-such-host.invalid/v1", input=["i"], output="o")
    found = ModelInfo(failure="it refuses the key")
    assert "does not resolve" in _of_its_server("p", pipeline, found).failure
    monkeypatch.setenv("http_proxy", f"http://{HOST}:1")
    monkeypatch.setenv("HTTP_PROXY", f"http://{HOST}:1")
    assert _of_its_server("p", pipeline, found) is found


def test_a_file_that_is_no_ca_says_nothing_of_who_answers(places: Places) -> None:
    peer = look_at_peer(*places["HTTP over TLS"], first="HTTP", ca_file="/no/such/ca.pem")
    assert (peer.speaks, peer.tls, peer.certificate) == ("HTTP", True, "")


def test_who_is_silent_over_tls_may_want_a_certificate() -> None:
    assert explain([PeerInfo("k:9092", tls=True)], cluster.expected(tls=True, login=False)) is None


def test_a_models_server(places: Places) -> None:
    pipeline = PipelineConfig(task="t", model=f"http://{HOST}:{places['Redis'][1]}/v1", input=["i"], output="o")
    found = _of_its_server("p", pipeline, ModelInfo(failure="the connection ended"))
    assert found.failure.endswith(", not an HTTP server; correct pipelines.p.model")
    pipeline = structs.replace(pipeline, model=f"http://{HOST}:{places['HTTP'][1]}/v1")
    assert _of_its_server("p", pipeline, found) is found


def test_otlp(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{HOST}:{places['Redis'][1]}")
    (check,) = _outlet(Config())
    assert "spans are dropped: a Redis answers at" in check.findings[0].what
    assert check.findings[0].fix == "correct OTEL_EXPORTER_OTLP_ENDPOINT"
