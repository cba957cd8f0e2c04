"""The local stack: real Apache Kafka brokers and a real redis-server, started and stopped together."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.local.class_archive import ensure_class_archive
from streamer.local.errors import PortTaken
from streamer.local.kafka import Listener, kafka_folder, prepare_brokers
from streamer.local.ports import LOOPBACK, free_ports, port_is_free
from streamer.local.process import LocalProcess, Watchdog
from streamer.local.redis import prepare_redis, redis_folder
from streamer.local.runtime import find_runtime
from streamer.local.watchdog import remove_folders

_PORT_ATTEMPTS = 3


class Stack:
    """A running local stack; a context manager that ends it. Start one with `Stack.start`."""

    def __init__(self, directory: Path, folders: list[Path]) -> None:
        self.directory = directory
        self.kafka_processes: list[LocalProcess] = []
        self.redis_process: LocalProcess | None = None
        self.bootstrap_servers = ""
        self.redis_url: str | None = None
        self._folders_to_remove = folders
        self._watchdog = Watchdog()
        for folder in folders:
            self._watchdog.remove(folder)

    @classmethod
    def start(
        cls,
        *,
        kafka: bool = True,
        redis: bool = True,
        brokers: int = 1,
        directory: Path | str | None = None,
        keep: bool = False,
        kafka_config: Mapping[str, object] | None = None,
        ports: Mapping[str, int] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> Stack:
        """Start the stack and return when every part answers requests.

        Args:
            kafka: start Kafka. `bootstrap_servers` is "" without.
            redis: start Redis. `redis_url` is None without.
            brokers: how many brokers, each also a controller. With 3, replication is 3 and min.insync.replicas 2.
            directory: where data and logs go; by default a new temporary folder. Data of an earlier run is used.
            keep: leave data and logs there at the end.
            kafka_config: broker properties that win over the ones chosen here.
            ports: `{"kafka": first broker's port, "redis": port}`; what is not named gets a free port.
            listeners: further addresses of the brokers, on ports that are free.

        Raises:
            MissingPart: Java, Maven or redis-server is absent.
            StartFailed: a process ended or did not get ready; PortTaken if a named port is in use.
        """
        home = Path(directory or tempfile.mkdtemp(prefix="streamer-")).absolute()
        folders = [kafka_folder(home, node) for node in range(1, brokers + 1)] if kafka else []
        folders += [redis_folder(home)] if redis else []
        stack = cls(home, [] if keep else folders)
        try:
            ports = ports or {}
            if redis:
                stack._start_redis(ports.get("redis"))
            if kafka:
                stack._start_kafka(brokers, ports.get("kafka"), kafka_config or {}, listeners)
        except BaseException:
            stack.close()
            raise
        return stack

    @property
    def processes(self) -> list[LocalProcess]:
        """All processes of the stack."""
        return [
            *self.kafka_processes,
            *([self.redis_process] if self.redis_process else []),
        ]

    def close(self) -> None:
        """End all processes, and remove data and logs unless they are to be kept."""
        if self._folders_to_remove:
            for process in self.processes:
                process.kill()  # an orderly end only saves data, and takes three brokers 6 s
            remove_folders(self._folders_to_remove)
        else:
            _stop_all(self.processes)
        self._watchdog.close()

    def detach(self) -> None:
        """Let the processes outlive this one; from now on their ends and their data are the caller's business."""
        for process in self.processes:
            self._watchdog.forget(process.pid)
        self._watchdog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start_redis(self, wanted_port: int | None) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            (port,) = [_checked(wanted_port)] if wanted_port else free_ports(1)
            self.redis_process = prepare_redis(self.directory, port, self._watchdog)
            if self._launch(
                [self.redis_process],
                last_attempt=bool(wanted_port) or attempt == _PORT_ATTEMPTS,
            ):
                self.redis_url = f"redis://{LOOPBACK}:{port}/0"
                return

    def _start_kafka(
        self,
        brokers: int,
        wanted_port: int | None,
        kafka_config: Mapping[str, object],
        listeners: Sequence[Listener],
    ) -> None:
        runtime = find_runtime()
        ensure_class_archive(runtime)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            chosen = free_ports(2 * brokers)
            if wanted_port:
                chosen[:brokers] = [_checked(port) for port in range(wanted_port, wanted_port + brokers)]
            broker_ports, controller_ports = chosen[:brokers], chosen[brokers:]
            self.kafka_processes = prepare_brokers(
                runtime,
                self.directory,
                broker_ports,
                controller_ports,
                kafka_config,
                self._watchdog,
                listeners,
            )
            if self._launch(self.kafka_processes, last_attempt=attempt == _PORT_ATTEMPTS):
                self.bootstrap_servers = ",".join(f"{LOOPBACK}:{port}" for port in broker_ports)
                return

    def _launch(self, processes: list[LocalProcess], *, last_attempt: bool) -> bool:
        """Start `processes` together; False if a port was lost to another program and another attempt is left."""
        for process in processes:
            process.launch()
        try:
            for process in processes:
                process.wait_ready()
        except PortTaken:
            if last_attempt:
                raise
            _stop_all(processes)
            return False
        return True


def _stop_all(processes: list[LocalProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.stop()


def _checked(port: int) -> int:
    if not port_is_free(port):
        raise PortTaken(
            f"port {port} on {LOOPBACK} is in use: end the program that listens there, or name another port"
        )
    return port
