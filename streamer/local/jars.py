"""Apache Kafka's jars: fetched once by Maven into the user's cache directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from streamer.local.errors import MissingPart
from streamer.local.lock import file_lock
from streamer.local.programs import Java, find_maven

KAFKA_VERSION = "4.3.1"

_FETCH_DEADLINE_S = 600


def cache_directory() -> Path:
    """Where streamer keeps what it can fetch again: `$XDG_CACHE_HOME/streamer`, by default `~/.cache/streamer`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer"


def kafka_jars(java: Java) -> Path:
    """The folder of Apache Kafka's jars; fetched by Maven if it is not in the cache yet.

    Safe to call from several processes at once: one fetches, the others wait. Raises MissingPart if Maven is absent or
    fails.
    """
    folder = cache_directory() / f"kafka-{KAFKA_VERSION}"
    if not folder.exists():
        with file_lock(folder.with_name(folder.name + ".lock")):
            if not folder.exists():
                _fetch(folder, java)
    return folder


def project_file(name: str) -> Path:
    """A file that this package ships: in the installed package, or where it lies in a source tree."""
    shipped = Path(__file__).with_name("files") / name
    return shipped if shipped.exists() else Path(__file__).parents[2] / name


def _fetch(folder: Path, java: Java) -> None:
    maven = find_maven()
    # The rename at the end makes the folder appear whole or not at all.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        command = [
            str(maven),
            "--quiet",
            "--batch-mode",
            "--strict-checksums",
            f"--file={project_file('deploy/kafka/pom.xml')}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={partial}",
        ]
        fetched = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_FETCH_DEADLINE_S,
            env=_maven_environment(java),
            check=False,
        )
        if fetched.returncode != 0:
            errors = [line for line in fetched.stdout.splitlines() if line.startswith("[ERROR] ")]
            reason = errors[0].removeprefix("[ERROR] ") if errors else f"exit status {fetched.returncode}"
            raise MissingPart(
                f"Maven could not fetch Apache Kafka {KAFKA_VERSION}; start Docker instead, or mend: {reason}"
            )
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _maven_environment(java: Java) -> dict[str, str]:
    environment = dict(os.environ)
    if not environment.get("JAVA_HOME") and shutil.which("java") is None:
        environment["JAVA_HOME"] = str(java.path.parent.parent)
    return environment
