"""A local redis-server: a cache in memory, with nothing on disk."""

from __future__ import annotations

import socket
from pathlib import Path

from streamer.local.ports import LOOPBACK
from streamer.local.process import LocalProcess, Watchdog
from streamer.local.programs import find_redis_server

_START_DEADLINE_S = 10.0
_STOP_DEADLINE_S = 5.0
_REQUEST_TIMEOUT_S = 1.0


def redis_folder(directory: Path) -> Path:
    """Where the log of Redis lies."""
    return directory / "redis"


def prepare_redis(directory: Path, port: int, watchdog: Watchdog) -> LocalProcess:
    """The process of a Redis on `port` that lives below `directory`. Raises MissingPart."""
    folder = redis_folder(directory)
    command = [
        str(find_redis_server()),
        "--bind",
        LOOPBACK,
        "--port",
        str(port),
        "--dir",
        str(folder),
    ]
    command += [
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxmemory",
        "256mb",
        "--maxmemory-policy",
        "allkeys-lru",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    return LocalProcess(
        "Redis",
        command,
        folder / "redis.log",
        lambda: redis_answers(port),
        watchdog,
        start_deadline_s=_START_DEADLINE_S,
        stop_deadline_s=_STOP_DEADLINE_S,
    )


def redis_answers(port: int) -> bool:
    """Whether a Redis on `port` answers PING."""
    try:
        with socket.create_connection((LOOPBACK, port), _REQUEST_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
