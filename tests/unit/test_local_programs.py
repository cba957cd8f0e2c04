"""How the local stack finds its programs, and what it says when one is absent."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.errors import ExitCode
from streamer.local import MissingPart
from streamer.local.docker import engine_answers
from streamer.local.jars import KAFKA_VERSION, kafka_jars, project_file
from streamer.local.programs import Java, find_java
from streamer.local.runtime import Runtime

ROOT = Path(__file__).parents[2]
INSTALL = f"{sys.executable} -m pip install --editable {shlex.quote(f'{ROOT}[local]')}"
OURS = f", or `{INSTALL}`" if sys.version_info < (3, 13) else ""


def _bare(expression: str) -> str:
    """What `expression` raises where PATH is empty and no package is installed."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from streamer.local import programs; programs.{expression}"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    return ended.stderr.splitlines()[-1]


def _script(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "find_java()",
            f"Apache Kafka needs Java 17 or newer: install a JDK, or `{INSTALL}`, or start Docker.",
        ),
        ("find_maven()", "Apache Kafka's jars are fetched by Maven: install Maven, or start Docker."),
        (
            "find_redis_server()",
            f"Redis needs redis-server: install Redis{OURS}, or start Docker.",
        ),
    ],
)
def test_absent_program_is_named_with_its_mend(expression: str, message: str) -> None:
    """A machine without a program gets one line that says what to install."""
    assert _bare(expression) == f"streamer.local.errors.MissingPart: {message}"


def test_missing_part_ends_with_the_exit_code_of_an_absent_dependency() -> None:
    """Scripts can tell an absent part from other errors."""
    assert MissingPart("Java").exit_code is ExitCode.DEPENDENCY


def test_java_home_wins_over_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME is the user's word; PATH comes after it."""
    for folder, version in (("bin", "21.0.1"), ("path", "17.0.9")):
        (tmp_path / folder).mkdir()
        _script(tmp_path / folder, "java", f"echo 'openjdk version \"{version}\" 2023-10-17' >&2")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == Java(tmp_path / "bin" / "java", "21.0.1", 21)
    monkeypatch.delenv("JAVA_HOME")
    assert find_java() == Java(tmp_path / "path" / "java", "17.0.9", 17)


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_392"])
def test_old_java_is_passed_over(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java that Kafka can't run on is not taken, whatever its way of writing versions."""
    old = _script(tmp_path, "java", f"echo 'openjdk version \"{version}\"' >&2")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    try:
        found = find_java().path
    except MissingPart:
        return
    assert found != old


def test_failed_fetch_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maven's first error reaches the user, and no half-filled cache is taken for a whole one later."""
    programs = tmp_path / "bin"
    programs.mkdir()
    _script(programs, "mvn", "echo '[ERROR] no such repository'; echo '[ERROR] more'; exit 1")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingPart, match=r"^Maven could not fetch .*: no such repository$"):
        kafka_jars(Java(Path("java"), "17", 17))
    assert not [path for path in (tmp_path / "cache" / "streamer").iterdir() if path.is_dir()]


def test_a_fetch_says_how_much_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes that Maven names are added up, whatever their units."""
    programs = tmp_path / "bin"
    programs.mkdir()
    lines = "".join(
        f"echo '[INFO] Downloaded from central: kafka-{size}.jar ({size} at 3.4 MB/s)';"
        for size in ("500 B", "750 kB", "5.8 MB")
    )
    _script(programs, "mvn", f'{lines} mkdir -p "$(echo "$@" | sed "s/.*-DoutputDirectory=//")"')
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told: list[float] = []
    assert kafka_jars(Java(Path("java"), "17", 17), told.append).is_dir()
    assert told == pytest.approx([0.0005, 0.7505, 6.5505])


@pytest.mark.parametrize(
    ("major", "use", "write"), [(17, "SharedArchiveFile", "ArchiveClassesAtExit"), (25, "AOTCache", "AOTCacheOutput")]
)
def test_class_archive_is_used_in_the_way_of_each_java(major: int, use: str, write: str, tmp_path: Path) -> None:
    """A broker is told of the archive once it exists, by the option that its Java knows, and else of none."""
    runtime = Runtime(Java(Path("java"), f"{major}.0.1", major), tmp_path / "kafka")
    archive = tmp_path / f"kafka-java-{major}.0.1.jsa"
    files = (tmp_path / "log4j2.xml", tmp_path / "server.properties")
    assert not [option for option in runtime.broker_command(*files) if str(archive) in option]
    archive.touch()
    assert f"-XX:{use}={archive}" in runtime.broker_command(*files)
    recording = replace(runtime, record=tmp_path / "new").broker_command(*files)
    assert f"-XX:{write}={tmp_path / 'new'}" in recording
    assert not [option for option in recording if str(archive) in option]


def test_brokers_beside_one_another_compile_quickly(tmp_path: Path) -> None:
    """A single one may take its time, for speed later."""
    runtime = Runtime(Java(Path("java"), "17.0.1", 17), tmp_path / "kafka")
    files = (tmp_path / "log4j2.xml", tmp_path / "server.properties")
    assert "-XX:TieredStopAtLevel=1" not in runtime.broker_command(*files)
    assert "-XX:TieredStopAtLevel=1" in runtime.broker_command(*files, alone=False)


def test_silent_docker_engine_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Docker client whose engine does not answer within a second counts as no Docker."""
    _script(tmp_path, "docker", "exec sleep 30")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert not engine_answers()


def test_all_files_name_one_kafka() -> None:
    """The jars, the container and the code are of one version of Kafka."""
    pom = project_file("deploy/kafka/pom.xml").read_text()
    compose = project_file("docker-compose.yml").read_text()
    assert f"<version>{KAFKA_VERSION}</version>" in pom
    assert re.findall(r"image: apache/kafka:(\S+)", compose) == [KAFKA_VERSION]
