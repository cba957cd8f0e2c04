"""`streamer scaler` as KEDA calls it, with topics on a real broker where the offsets alone mislead."""

from __future__ import annotations

import asyncio
import json
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.config.load import Config, load
from streamer.errors import ConfigurationError
from streamer.kafka.topics import connect
from streamer.scaler.serve import Certificates, serve
from tests.acceptance.certificates import Certificates as Made
from tests.acceptance.certificates import make_certificates
from tests.conftest import Kafka
from tests.integration.group_offsets import settle

PATIENCE_S = 60.0


def text(number: int, value: str) -> bytes:
    """A field of text on the wire: nothing here is made by the code under test."""
    return part(number, value.encode())


def part(number: int, value: bytes) -> bytes:
    """A field of bytes, shorter than 128."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def scaled_object(**metadata: str) -> bytes:
    """A ScaledObjectRef: name, namespace, and the metadata's entries."""
    entries = b"".join(part(3, text(1, key) + text(2, value)) for key, value in metadata.items())
    return text(1, "mine") + text(2, "default") + entries


def fields(message: bytes) -> dict[int, Any]:
    """What is in a message, by number."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(message):
        number, kind = message[at] >> 3, message[at] & 7
        assert kind in (0, 1, 2) and (kind == 1 or message[at + 1] < 128)
        if kind == 0:
            found[number], at = message[at + 1], at + 2
        elif kind == 1:
            (found[number],), at = struct.unpack_from("<d", message, at + 1), at + 9
        else:
            end = at + 2 + message[at + 1]
            found[number], at = message[at + 2 : end], end
    return found


class Client:
    """KEDA's calls."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def ask(self, call: str, request: bytes, service: str = "externalscaler.ExternalScaler") -> dict[int, Any]:
        """One answer."""
        answer: bytes = self._channel.unary_unary(f"/{service}/{call}")(request, timeout=PATIENCE_S)
        return fields(answer)

    def replicas(self, **metadata: str) -> float:
        """Of a ScaledObject with these metadata; both numbers of the answer say the same."""
        (value,) = self.ask("GetMetrics", part(1, scaled_object(**metadata)) + text(2, "streamer-replicas")).values()
        found = fields(value)
        assert found[1] == b"streamer-replicas" and found.get(2, 0) == found.get(3, 0.0)
        active = self.ask("IsActive", scaled_object(**metadata))
        assert active == ({1: 1} if found.get(3) else {})
        return float(found.get(3, 0.0))

    def refused(self, call: str, request: bytes) -> tuple[grpc.StatusCode, str]:
        """How a call ends that fails."""
        with pytest.raises(grpc.RpcError) as raised:
            self.ask(call, request)
        return raised.value.code(), raised.value.details()

    @contextmanager
    def pushed(self, **metadata: str) -> Iterator[Callable[[], bool]]:
        """What a stream says, one by one."""
        call = self._channel.unary_stream("/externalscaler.ExternalScaler/StreamIsActive")(scaled_object(**metadata))
        said: queue.Queue[bool] = queue.Queue()

        def listen() -> None:
            try:
                for each in call:
                    said.put(fields(each) == {1: 1})
            except grpc.RpcError:
                pass

        listening = threading.Thread(target=listen)
        listening.start()
        try:
            yield lambda: said.get(timeout=PATIENCE_S)
        finally:
            call.cancel()
            listening.join()


@contextmanager
def serving(config: Config, certificates: Certificates | None = None) -> Iterator[int]:
    """A scaler in a thread of this process; the port that it listens on."""
    bound: Future[int] = Future()
    stops: list[Callable[[], object]] = []

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        await serve(config, "127.0.0.1", 0, 0.2, stop, bound.set_result, certificates)

    thread = threading.Thread(target=asyncio.run, args=(until_stopped(),))
    thread.start()
    try:
        yield bound.result(PATIENCE_S)
    finally:
        stops[0]()
        thread.join()


def config_of(address: str, name: str, pipelines: list[str]) -> Config:
    """A pipeline for each of these, whose input is a topic of that name."""
    wanted = {"task": "t", "model": "builtin:null"}
    overrides = [f"kafka.bootstrap_servers={address}", f"telemetry.reports={name}.reports"]
    for each in pipelines:
        named = {"input": f"{name}.{each}", "output": f"{name}.{each}.out", "group": f"{name}.{each}"}
        overrides += [f"pipelines.{each}.{key}={value}" for key, value in (wanted | named).items()]
    return load(None, {}, overrides)


@pytest.fixture(scope="module")
def name(kafka: Kafka) -> Iterator[str]:
    """Topics of two partitions. `read`: two transactions, all settled. `aborted`: one transaction, aborted. `deleted`:
    records that retention took, before a group without offsets. `opened`: a transaction that is not ended. `empty`.
    """
    name = f"scaler-{uuid4().hex[:8]}"
    topics = [f"{name}.{each}" for each in ("read", "aborted", "deleted", "opened", "empty")]
    config = config_of(kafka.bootstrap_servers, name, ["read"])
    admin = connect(config.kafka)
    for future in admin.create_topics([NewTopic(topic, 2) for topic in topics]).values():
        future.result(PATIENCE_S)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": name})
    producer.init_transactions()

    def write(topic: str) -> None:
        producer.begin_transaction()
        for partition in (0, 1, 1):
            producer.produce(f"{name}.{topic}", b"x", partition=partition)
        producer.flush()

    write("read")
    producer.commit_transaction()
    write("aborted")
    producer.abort_transaction()
    write("deleted")
    producer.commit_transaction()
    last = [TopicPartition(f"{name}.deleted", partition, -1) for partition in (0, 1)]
    for deleted in admin.delete_records(last).values():
        deleted.result(PATIENCE_S)
    settle(kafka.bootstrap_servers, f"{name}.read", [TopicPartition(f"{name}.read", n, n + 1) for n in (0, 1)])
    write("opened")
    yield name
    producer.abort_transaction()


@pytest.fixture(scope="module")
def client(kafka: Kafka, name: str) -> Iterator[Client]:
    config = config_of(kafka.bootstrap_servers, name, ["read", "aborted", "deleted", "opened", "empty", "missing"])
    with serving(config) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)


@pytest.mark.parametrize("pipeline", ["read", "aborted", "deleted", "opened"])
def test_where_the_offsets_say_lag_there_is_no_work(kafka: Kafka, name: str, client: Client, pipeline: str) -> None:
    """KEDA's own kafka trigger subtracts what is settled, else 0, from the end: it would never let these rest."""
    properties = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"{name}.{pipeline}"}
    consumer = Consumer({**properties, "isolation.level": "read_uncommitted"})
    places = [TopicPartition(f"{name}.{pipeline}", number) for number in (0, 1)]
    try:
        settled = [max(each.offset, 0) for each in consumer.committed(places, timeout=PATIENCE_S)]
        ends = [consumer.get_watermark_offsets(each, timeout=PATIENCE_S)[1] for each in places]
    finally:
        consumer.close()
    assert all(end > offset for end, offset in zip(ends, settled, strict=True))
    assert client.replicas(pipeline=pipeline) == 0


def test_work_wakes_a_pipeline_at_once_and_its_end_lets_it_rest(kafka: Kafka, name: str, client: Client) -> None:
    """From zero to as many replicas as are needed, never more than there are partitions, and back."""
    topic = f"{name}.empty"
    with client.pushed(pipeline="empty") as said:
        assert not said()
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        for _ in range(5):
            producer.produce(topic, b"x", partition=0)
        producer.flush()
        assert said()
        wanted = {"pipeline": "empty", "scalerAddress": "scaler:9480"}
        assert client.replicas(**wanted) == 1
        assert client.replicas(**wanted, max_records="1") == 2
        assert client.replicas(**wanted, max_records="1", max_replicas="1") == 1
        settle(kafka.bootstrap_servers, topic, [TopicPartition(topic, 0, 5)])
        assert not said()
        assert client.replicas(**wanted) == 0


def test_a_stream_repeats_what_it_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every minute; here with every look."""
    monkeypatch.setattr("streamer.scaler.serve.AGAIN_S", 0.0)
    with client.pushed(pipeline="read") as said:
        assert [said(), said()] == [False, False]


def test_keda_is_told_what_the_metric_is(client: Client) -> None:
    """One metric of whole replicas: the target of each is 1. The health check is gRPC's own."""
    (spec,) = client.ask("GetMetricSpec", scaled_object(pipeline="read")).values()
    assert fields(spec) == {1: b"streamer-replicas", 2: 1, 3: 1.0}
    assert client.ask("Check", b"", "grpc.health.v1.Health") == {1: 1}


def test_what_can_not_be_told_is_an_error_and_never_a_number(client: Client) -> None:
    """Mistakes of the ScaledObject by field and fix; a missing input by name."""
    for call in ("IsActive", "GetMetricSpec"):
        code, details = client.refused(call, scaled_object(pipeline="reed", drain_s="0"))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith("ScaledObject default/mine: metadata.drain_s: ")
        assert "the configuration has no pipeline reed; did you mean read?" in details
    code, details = client.refused("GetMetrics", part(1, scaled_object(pipeline="read")) + text(2, "other"))
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "there is no metric other; this scaler has streamer-replicas",
    )
    code, details = client.refused("IsActive", scaled_object(pipeline="missing"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "does not exist" in details


def test_without_an_answer_of_the_brokers_there_is_none(tmp_path: Path) -> None:
    """The command starts all the same. Its calls fail, so that KEDA uses the fallback; it ends when it is told to."""
    pipeline = {"task": "t", "model": "builtin:null", "input": "a", "output": "b"}
    flags = [f"--set=pipelines.p.{key}={value}" for key, value in pipeline.items()]
    command = [sys.executable, "-m", "streamer", "scaler", "--port", "0", "--set=kafka.bootstrap_servers=127.0.0.1:1"]
    scaler = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, cwd=tmp_path)
    assert scaler.stderr is not None
    try:
        address = json.loads(scaler.stderr.readline())["address"]
        with grpc.insecure_channel(address) as channel:
            client = Client(channel)
            assert client.ask("GetMetricSpec", scaled_object(pipeline="p"))
            code, details = client.refused("GetMetrics", part(1, scaled_object(pipeline="p")))
        scaler.terminate()
        assert scaler.wait(PATIENCE_S) == 0
    finally:
        scaler.kill()
        scaler.communicate()
    assert code is grpc.StatusCode.UNAVAILABLE and "127.0.0.1:1" in details


def test_tls_asks_clients_for_their_certificates(name: str, tmp_path: Path) -> None:
    """Those of another authority are not served; files that are renewed count at once. A port that is taken is told."""
    ours, others = tmp_path / "ours", tmp_path / "others"
    ours.mkdir()
    others.mkdir()
    made, strange = make_certificates(ours), make_certificates(others)
    certificates = Certificates(made.certificate, made.key, made.authority)
    config = config_of("127.0.0.1:1", name, ["read"])
    request = scaled_object(pipeline="read")
    with serving(config, certificates) as port:

        def served(authority: Path, own: Made) -> bool:
            """Whether the scaler answers who trusts this authority and has these certificates."""
            key, certificate = own.key.read_bytes(), own.certificate.read_bytes()
            credentials = grpc.ssl_channel_credentials(authority.read_bytes(), key, certificate)
            with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
                try:
                    return bool(Client(channel).ask("GetMetricSpec", request))
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE
                    return False

        assert served(made.authority, made)
        assert not served(made.authority, strange)
        for old, new in zip(certificates, (strange.certificate, strange.key, strange.authority), strict=True):
            assert old is not None
            old.write_bytes(new.read_bytes())
        assert served(strange.authority, strange)
        with pytest.raises(ConfigurationError, match=f"can't listen on 127.0.0.1:{port}; choose another --port"):
            asyncio.run(serve(config, "127.0.0.1", port, 1.0, asyncio.Event(), lambda _: None))
