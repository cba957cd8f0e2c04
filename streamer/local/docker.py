"""The stack as containers, where a Docker engine answers."""

from __future__ import annotations

import os
import shutil
import subprocess

from streamer.local.errors import StartFailed
from streamer.local.jars import project_file

_DETECTION_DEADLINE_S = 0.9


def engine_answers() -> bool:
    """Whether the Docker client is installed and its engine answers; quiet, and decided in less than a second."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        command = [docker, "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, capture_output=True, timeout=_DETECTION_DEADLINE_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def compose_up(services: list[str], kafka_port: int, redis_port: int) -> None:
    """Start services of docker-compose.yml and wait until they are healthy. Raises StartFailed."""
    ports = {"STREAMER_KAFKA_PORT": str(kafka_port), "STREAMER_REDIS_PORT": str(redis_port)}
    command = [*_compose(), "up", "--detach", "--wait", *services]
    started = subprocess.run(command, env=os.environ | ports, capture_output=True, text=True, check=False)
    if started.returncode != 0:
        raise StartFailed(f"docker compose could not start the stack:\n  {started.stderr.strip()}")


def compose_down(*, keep_data: bool) -> None:
    """End the containers and, unless they are to be kept, remove their data."""
    subprocess.run([*_compose(), "down", *([] if keep_data else ["--volumes"])], capture_output=True, check=True)


def compose_logs(services: list[str], *, lines: int, follow: bool) -> None:
    """Print the containers' logs."""
    command = [*_compose(), "logs", "--no-color", f"--tail={lines}", *(["--follow"] if follow else []), *services]
    subprocess.run(command, check=False)


def _compose() -> list[str]:
    return ["docker", "compose", "--file", str(project_file("docker-compose.yml"))]
