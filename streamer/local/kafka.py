"""A local Apache Kafka: KRaft brokers, each also a controller, as processes of the user."""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.local.errors import StartFailed
from streamer.local.ports import LOOPBACK
from streamer.local.process import LocalProcess, Watchdog
from streamer.local.runtime import Runtime

_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 45.0
_REQUEST_TIMEOUT_S = 1.0

_LOG_CONFIGURATION_FILE = "log4j2.xml"
_LOG_CONFIGURATION = """\
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders>
    <Console name="log"><PatternLayout pattern="%d{ISO8601} %p %m (%c)%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="log"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """A further address of every broker, by broker in order. A client that comes in at one of `ports` is told to find
    the brokers at `advertised`, e.g. at a proxy that leads back to `ports`."""

    name: str
    ports: Sequence[int]
    advertised: Sequence[int]


def kafka_folder(directory: Path, node: int) -> Path:
    """Where the configuration, the data and the log of broker `node` lie."""
    return directory / f"kafka-{node}"


def prepare_brokers(
    runtime: Runtime,
    directory: Path,
    broker_ports: list[int],
    controller_ports: list[int],
    kafka_config: Mapping[str, object],
    watchdog: Watchdog,
    listeners: Sequence[Listener] = (),
) -> list[LocalProcess]:
    """Write the configuration of one broker per port below `directory`, format new storage, and return the processes.

    Nodes count from 1; their folders may hold the data of an earlier run. Raises StartFailed.
    """
    voters = ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in enumerate(controller_ports, 1))
    replicas = len(broker_ports)
    folders = [kafka_folder(directory, node) for node in range(1, replicas + 1)]
    for node, folder in enumerate(folders, 1):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _LOG_CONFIGURATION_FILE).write_text(_LOG_CONFIGURATION)
        properties = _server_properties(node, folder, broker_ports[node - 1], controller_ports[node - 1], replicas)
        properties |= {
            "controller.quorum.voters": voters,
            **_listener_properties(node, properties, listeners),
            **{name: str(value) for name, value in kafka_config.items()},
        }
        _write_properties(folder / "server.properties", properties)
    _format_storage(runtime, folders)
    return [
        LocalProcess(
            f"Kafka broker {node}",
            runtime.broker_command(folder / _LOG_CONFIGURATION_FILE, folder / "server.properties", alone=replicas == 1),
            folder / "kafka.log",
            _Probe(node, broker_ports[node - 1]),
            watchdog,
            start_deadline_s=_START_DEADLINE_S,
            stop_deadline_s=_STOP_DEADLINE_S,
        )
        for node, folder in enumerate(folders, 1)
    ]


def live_brokers(port: int) -> set[int]:
    """The node ids that the broker on `port` names as alive (a Metadata request, version 1, for no topics).

    Raises OSError if it does not answer. Layout: https://kafka.apache.org/protocol#The_Messages_Metadata
    """
    client = b"streamer.local"
    request = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, 0)
    with socket.create_connection((LOOPBACK, port), _REQUEST_TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _receive(connection, 4))
        answer = _receive(connection, size)
    _, count = struct.unpack_from(">ii", answer)
    at = 8
    nodes = set()
    for _ in range(count):
        node, host_size = struct.unpack_from(">ih", answer, at)
        at += 6 + host_size + 4
        (rack_size,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack_size, 0)
        nodes.add(node)
    return nodes


class _Probe:
    """Whether broker `node` serves metadata and its cluster counts it as alive."""

    def __init__(self, node: int, port: int) -> None:
        self._node = node
        self._port = port

    def __call__(self) -> bool:
        try:
            return self._node in live_brokers(self._port)
        except OSError:
            return False


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError("the broker closed the connection")
        received += part
    return bytes(received)


def _server_properties(
    node: int, folder: Path, broker_port: int, controller_port: int, replicas: int
) -> dict[str, str]:
    replication = min(replicas, 3)
    min_in_sync = max(1, replication - 1)
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "listeners": f"PLAINTEXT://{LOOPBACK}:{broker_port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{broker_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(replication),
        "min.insync.replicas": str(min_in_sync),
        "offsets.topic.replication.factor": str(replication),
        "transaction.state.log.replication.factor": str(replication),
        "transaction.state.log.min.isr": str(min_in_sync),
        "share.coordinator.state.topic.replication.factor": str(replication),
        "share.coordinator.state.topic.min.isr": str(min_in_sync),
        # 50 partitions each by default, all of which are created before the first group or transaction gets an answer.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        # A broker restarted after SIGKILL is let in again when its old session is over: 9 s by default.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        # 128 MB of heap by default.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }


def _listener_properties(node: int, properties: Mapping[str, str], listeners: Sequence[Listener]) -> dict[str, str]:
    """The properties that name listeners, with further ones."""
    more = {
        "listeners": [f"{each.name}://{LOOPBACK}:{each.ports[node - 1]}" for each in listeners],
        "advertised.listeners": [f"{each.name}://{LOOPBACK}:{each.advertised[node - 1]}" for each in listeners],
        "listener.security.protocol.map": [f"{each.name}:PLAINTEXT" for each in listeners],
    }
    return {name: ",".join([properties[name], *values]) for name, values in more.items()}


def _write_properties(path: Path, properties: Mapping[str, str]) -> None:
    # A backslash starts an escape in Java's properties files.
    lines = [f"{name}={value}\n".replace("\\", "\\\\") for name, value in properties.items()]
    path.write_text("".join(lines), encoding="utf-8")


def _format_storage(runtime: Runtime, folders: list[Path]) -> None:
    """Format the storage that is not formatted yet, all in one cluster."""
    markers = [folder / "data" / "meta.properties" for folder in folders]
    cluster = next((_cluster_of(marker) for marker in markers if marker.exists()), None) or _new_cluster_id()
    tools = []
    for folder, marker in zip(folders, markers, strict=True):
        if not marker.exists():
            command = runtime.tool_command(folder / _LOG_CONFIGURATION_FILE, "kafka.tools.StorageTool")
            command += [
                "format",
                f"--cluster-id={cluster}",
                "--config",
                str(folder / "server.properties"),
            ]
            tools.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for process in tools:
        said, _ = process.communicate()
        if process.returncode != 0:
            raise StartFailed(f"Kafka's storage could not be formatted:\n  {said.strip()}")


def _cluster_of(marker: Path) -> str | None:
    for line in marker.read_text().splitlines():
        if line.startswith("cluster.id="):
            return line.removeprefix("cluster.id=")
    return None


def _new_cluster_id() -> str:
    """A UUID as Kafka writes it: 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
