"""A redis-server of a test's own, to be killed, stopped and misconfigured."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any, Self

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from streamer.local.programs import find_redis_server


class RedisServer:
    """A redis-server on a free loopback port; the port stays the same over restarts."""

    def __init__(self, *options: str, password: str = "") -> None:
        self.options = options
        self.password = password
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = ""

    @property
    def url(self) -> str:
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Redis:
        """A client of the test's own."""
        return Redis(port=self.port, password=self.password or None, socket_timeout=5)

    def command(self, *words: str | int | bytes) -> Any:
        """Send one command, return its reply."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Start and wait until it answers."""
        command: list[str] = [str(find_redis_server()), "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        if self.password:
            command += ["--requirepass", self.password]
        self._directory = tempfile.mkdtemp(prefix="streamer-test-redis-")
        self._process = subprocess.Popen(
            [*command, *self.options],
            cwd=self._directory,  # a replica is given a dump of it all, which both write to disk
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
                return
            except ResponseError:
                return  # it answers, if only to refuse
            except RedisConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self) -> None:
        """Kill, then start empty on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections are accepted by the kernel, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
