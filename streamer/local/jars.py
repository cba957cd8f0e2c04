"""Apache Kafka's jars: fetched once by Maven into the user's cache directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from streamer.local.errors import MissingPart
from streamer.local.lock import file_lock
from streamer.local.programs import Java, find_maven

KAFKA_VERSION = "4.3.1"

FETCHED_MB = 50
"""About how much Maven fetches the first time, its own parts included."""

_FETCH_DEADLINE_S = 600
_FETCHED = re.compile(r"Downloaded from .*\(([\d.]+) ([kMG]?)B")
_UNITS = {"": 1e-6, "k": 1e-3, "M": 1.0, "G": 1e3}


def cache_directory() -> Path:
    """Where streamer keeps what it can fetch again: `$XDG_CACHE_HOME/streamer`, by default `~/.cache/streamer`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer"


def jars_folder() -> Path:
    """Where Apache Kafka's jars are once they are fetched."""
    return cache_directory() / f"kafka-{KAFKA_VERSION}"


def kafka_jars(java: Java, on_fetched: Callable[[float], object] = lambda _: None) -> Path:
    """The folder of Apache Kafka's jars; fetched by Maven if it is not in the cache yet.

    `on_fetched` is told, again and again, how many MB came so far. Safe to call from several processes at once: one
    fetches, the others wait. Raises MissingPart if Maven is absent or fails.
    """
    folder = jars_folder()
    if not folder.exists():
        with file_lock(folder.with_name(folder.name + ".lock")):
            if not folder.exists():
                _fetch(folder, java, on_fetched)
    return folder


def project_file(name: str) -> Path:
    """A file that this package ships: in the installed package, or where it lies in a source tree."""
    shipped = Path(__file__).with_name("files") / name
    return shipped if shipped.exists() else Path(__file__).parents[2] / name


def _fetch(folder: Path, java: Java, on_fetched: Callable[[float], object]) -> None:
    maven = find_maven()
    # The rename at the end makes the folder appear whole or not at all.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        command = [
            str(maven),
            "--batch-mode",
            "--strict-checksums",
            f"--file={project_file('deploy/kafka/pom.xml')}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={partial}",
        ]
        errors, fetched_mb = [], 0.0
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_maven_environment(java),
        ) as maven_process:
            assert maven_process.stdout is not None
            timer = threading.Timer(_FETCH_DEADLINE_S, maven_process.kill)
            timer.start()
            try:
                for line in maven_process.stdout:
                    if line.startswith("[ERROR] "):
                        errors.append(line.removeprefix("[ERROR] ").strip())
                    elif came := _FETCHED.search(line):
                        fetched_mb += float(came[1]) * _UNITS[came[2]]
                        on_fetched(fetched_mb)
            except BaseException:
                maven_process.kill()
                raise
            finally:
                timer.cancel()
        if maven_process.returncode != 0:
            reason = errors[0] if errors else f"exit status {maven_process.returncode}"
            raise MissingPart(
                f"Maven could not fetch Apache Kafka {KAFKA_VERSION}. Start Docker instead, or fix this: {reason}"
            )
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _maven_environment(java: Java) -> dict[str, str]:
    environment = dict(os.environ)
    if not environment.get("JAVA_HOME") and shutil.which("java") is None:
        environment["JAVA_HOME"] = str(java.path.parent.parent)
    return environment
