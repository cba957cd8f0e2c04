"""Reports for the health app's tests, written as pipelines write them: each in a transaction of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streamer.config.load import KafkaConfig
from streamer.core.health.windows.fold import Fold
from streamer.core.report import Histogram, Model, Report
from streamer.kafka.reader import Reader
from streamer.local.ports import free_ports
from tests.health_kit import report as report_of

MINUTE_MS = 60_000
DEADLINE_S = 30.0


def report(pipeline: str, first: int, records: int, time_ms: int, *, dead: int = 0, partition: int = 0) -> Report:
    """A report on `records` records from offset `first` on, `dead` of which became dead letters."""
    return report_of(
        time_ms,
        pipeline=pipeline,
        version="streamer.report.v1",
        model=Model("model", "abc123"),
        ranges=[("events", partition, first, first + records - 1)],
        results=records - dead,
        dead_letters={"infer.nan": dead} if dead else {},
        tokens=7 * records,
        latency_ms=Histogram([(10, records)], 9 * records, 10),
        text_chars=Histogram([(100, records)], 90 * records, 95),
        labels={"joy": records - dead},
        confidence=[0] * 19 + [records - dead],
    )


class Bed:
    """Topics of one test's own, and what writes reports to them."""

    def __init__(self, bootstrap_servers: str, folder: Path) -> None:
        self.kafka = KafkaConfig(bootstrap_servers=bootstrap_servers)
        name = uuid4().hex[:8]
        self.reports, self.health, self.feedback = f"{name}.reports", f"{name}.health", f"{name}.feedback"
        self.folder = folder
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        self.make(self.reports, 2)
        settings = {"bootstrap.servers": bootstrap_servers, "transactional.id": uuid4().hex}
        self._producer = Producer(settings)
        self._producer.init_transactions()

    def make(self, topic: str, partitions: int) -> None:
        """Create a topic."""
        for future in self.admin.create_topics([NewTopic(topic, partitions)]).values():
            future.result()

    def write(self, *reports: Report, commit: bool = True, together: int = 1) -> None:
        """Write reports, `together` in each transaction; aborted ones without `commit`."""
        for index in range(0, len(reports), together):
            self._producer.begin_transaction()
            for each in reports[index : index + together]:
                self._producer.produce(self.reports, msgspec.json.encode(each), each.pipeline)
            if commit:
                self._producer.commit_transaction()
            else:
                self._producer.flush()
                self._producer.abort_transaction()

    def write_raw(self, *values: bytes | None, topic: str = "", together: int = 1000, to: int = -1) -> None:
        """Write records that are no reports, to the topic of reports unless another is named."""
        for index in range(0, len(values), together):
            self._producer.begin_transaction()
            for value in values[index : index + together]:
                self._producer.produce(topic or self.reports, value, partition=to)
            self._producer.commit_transaction()

    def truth(self) -> Fold:
        """The fold of what a plain reader of the topic finds."""
        fold = Fold()
        with Reader(self.kafka, [self.reports]) as reader:
            for record in reader.read_until_end():
                fold.add(msgspec.json.decode(record.value() or b"", type=Report))
        return fold

    def config(self, port: int, pipelines: str = "", health: str = "") -> Path:
        """A configuration file for an app that listens on `port`."""
        file = self.folder / f"streamer-{port}.toml"
        file.write_text(
            f"""
[kafka]
bootstrap_servers = "{self.kafka.bootstrap_servers}"
[telemetry]
reports = "{self.reports}"
spans = ""
http = ""
log_format = "json"
[health]
topic = "{self.health}"
feedback = "{self.feedback}"
http = "127.0.0.1:{port}"
{health}
{pipelines}
"""
        )
        return file

    @contextmanager
    def app(self, **words: str) -> Iterator[App]:
        """`streamer health run`; it is killed when the block ends."""
        (port,) = free_ports(1)
        app = App(self.config(port, **words), port, self.folder / f"health-{port}.log")
        try:
            yield app
        finally:
            app.kill()


class App:
    """A process that runs the app."""

    def __init__(self, config: Path, port: int, log: Path) -> None:
        self._command = [sys.executable, "-m", "streamer", "health", "run", "--config", str(config)]
        self._port, self.log = port, log
        self.start()

    def start(self) -> None:
        """Start it, again after a kill."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """With -9."""
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> Any:
        """A page's JSON; None while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:  # an OSError, too, that holds its socket
            error.close()
            return None
        except OSError:
            return None
        return json.loads(body) if path.partition("?")[0] != "/metrics" else body.decode()

    def wait_for(self, path: str, wanted: Any) -> Any:
        """A page that is as `wanted` (a function of its content) says; fails after a while, with the log."""
        deadline = time.monotonic() + DEADLINE_S
        found = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            found = self.get(path)
            if found is not None and wanted(found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{path}: {found}\n{self.log.read_text()}")
