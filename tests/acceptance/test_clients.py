"""The programs of docs/clients.md in Java and JavaScript, built and run beside a pipeline, and what they see held to
schemas/asyncapi.yaml."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.acceptance.harness import ROOT, Lab, wait_for
from tests.conftest import Kafka

pytestmark = pytest.mark.every_way

SCHEMAS = ROOT / "schemas"
ASYNCAPI = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
FILES = [json.loads(path.read_text()) for path in SCHEMAS.rglob("*.json") if path.name != "config.json"]
REGISTRY: Registry[Any] = Registry().with_resources((body["$id"], Resource.from_contents(body)) for body in FILES)
TEXTS = ["What a fine day", "The worst film of the year", "naïve ☃ 日本語", "It was all right", "Never again"]
KEYS = [f"user-{number}" for number in range(3)]
TAKEN_BACK = "taken back"


@dataclass(frozen=True, slots=True)
class Language:
    """How the programs of a language are built and started, in a copy of their folder."""

    folder: str
    tools: Sequence[str]
    build: Sequence[str]
    start: Sequence[str]
    produce: str
    subscribe: str
    dead_letters: str


JAVA = Language(
    "java",
    ["java", "javac", "mvn"],
    ["mvn", "-q", "--batch-mode", "compile", "dependency:copy-dependencies"],
    ["java", "-cp", "target/classes:target/dependency/*"],
    "Produce",
    "Subscribe",
    "DeadLetters",
)
JAVASCRIPT = Language(
    "javascript",
    ["node", "npm"],
    ["npm", "ci", "--no-audit", "--no-fund"],
    ["node"],
    "produce.js",
    "subscribe.js",
    "dead-letters.js",
)


class Program:
    """A subscriber under way: its lines, as JSON."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.log = folder / f"{command[-1]}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def next(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=60)
        except queue.Empty:
            raise AssertionError(f"nothing more was read:\n{self.log.read_text()[-3000:]}") from None
        seen = json.loads(line)
        assert isinstance(seen, dict)
        return seen

    def end(self) -> list[bytes]:
        """SIGTERM; returns the lines that nobody asked for."""
        self.process.terminate()
        self.process.wait(30)
        self._thread.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return [self._lines.get() for _ in range(self._lines.qsize())]


def fits(schema: str | dict[str, Any], value: object) -> None:
    """Held to a schema: one by its file's name, or one of the AsyncAPI document."""
    found = json.loads((SCHEMAS / schema).read_text()) if isinstance(schema, str) else schema
    Draft202012Validator(found, registry=REGISTRY).validate(value)


def headers_of(message: str) -> dict[str, Any]:
    """The schema of a message's headers, as the AsyncAPI document names it."""
    named: dict[str, Any] = ASYNCAPI["components"]["messages"][message]["headers"]
    if "schema" in named:
        found: dict[str, Any] = json.loads((SCHEMAS / named["schema"]["$ref"]).read_text())
    else:
        found = ASYNCAPI["components"]["schemas"][named["$ref"].rpartition("/")[2]]
    return found


def payload_of(message: str) -> str:
    """The file that the AsyncAPI document names for a message's value."""
    name: str = ASYNCAPI["components"]["messages"][message]["payload"]["schema"]["$ref"]
    return name


@pytest.fixture(scope="module")
def lab(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A pipeline with a model under way; its outputs hold aborted transactions, one after the other, before and after
    what is committed."""
    with Lab(kafka.bootstrap_servers, tmp_path_factory.mktemp("clients")) as lab:
        lab.topics(3)
        lab.telemetry["spans"] = f"{lab.name}.spans"
        lab.create({lab.telemetry["spans"]: {}}, 1)
        take_back(lab)
        run = lab.start(lab.config("package:streamer/demo/models/sentiment-micro"))
        wait_for(run.assigned, "its partitions", run=run)
        yield lab
        assert run.stop() == 0, run.log


def take_back(lab: Lab) -> None:
    """Two transactions with a record on each partition of both outputs, aborted."""
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "transactional.id": f"{lab.name}.other"})
    producer.init_transactions(30)
    for _ in range(2):
        producer.begin_transaction()
        for topic in (lab.output, lab.dead_letter):
            for partition in range(lab.partitions):
                producer.produce(topic, json.dumps(TAKEN_BACK), TAKEN_BACK, partition)
        assert producer.flush(30) == 0
        producer.abort_transaction(30)
    producer.close()


def read(lab: Lab, topic: str, isolation: str) -> list[Any]:
    """All that lies there now."""
    settings = {"bootstrap.servers": lab.bootstrap_servers, "group.id": "none", "enable.auto.commit": False}
    consumer = Consumer({**settings, "isolation.level": isolation, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(lab.partitions)])
    found, ended = [], 0
    while ended < lab.partitions:
        message = consumer.poll(30)
        assert message is not None
        if message.error() is None:
            found.append(message)
        else:
            ended += 1
    consumer.close()
    return found


def partitions_by_key(lab: Lab) -> dict[bytes | None, int | None]:
    """Where `streamer` and Java put the keys."""
    placed: dict[bytes | None, int | None] = {}
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "partitioner": "murmur2_random"})
    lab.create({f"{lab.name}.keys": {}}, lab.partitions)
    for key in KEYS:
        producer.produce(
            f"{lab.name}.keys", b"", key, on_delivery=lambda _, at: placed.update({at.key(): at.partition()})
        )
    assert producer.flush(30) == 0
    producer.close()
    return placed


@pytest.mark.parametrize("language", [JAVA, JAVASCRIPT], ids=lambda language: language.folder)
def test_producers_and_subscribers_of_other_languages(lab: Lab, tmp_path: Path, language: Language) -> None:
    """Each event fits the contract and has its outcome, in order, in its trace; what was aborted is not seen."""
    if missing := [tool for tool in language.tools if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} is not on the PATH: the {language.folder} examples were not tried")
    folder = tmp_path / language.folder
    shutil.copytree(ROOT / "docs/clients" / language.folder, folder)
    built = subprocess.run(language.build, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]

    earlier = {(message.partition(), message.offset()) for message in read(lab, lab.input, "read_committed")}
    command = [*language.start, language.produce, lab.bootstrap_servers, lab.input, *TEXTS, ""]
    subprocess.run(command, cwd=folder, check=True, timeout=60, stdout=subprocess.DEVNULL)
    written = [
        message
        for message in read(lab, lab.input, "read_committed")
        if (message.partition(), message.offset()) not in earlier
    ]
    events = {}
    for message in written:
        headers = {name: value.decode() for name, value in message.headers()}
        assert {"content-type", "traceparent"} <= headers.keys()
        fits(headers_of("event"), headers)
        event = json.loads(message.value())
        if event["text"]:  # the other one breaks the contract by intent
            fits(payload_of("event"), event)
        events[event["id"]] = (event["text"], headers["traceparent"].split("-")[1])
    assert sorted(text for text, _ in events.values()) == sorted([*TEXTS, ""])
    placed = partitions_by_key(lab)
    assert all(placed[message.key()] == message.partition() for message in written)

    group = f"{lab.name}.{language.folder}"
    subscriber, letters = (
        Program([*language.start, program, lab.bootstrap_servers, topic, f"{group}.{program}"], folder)
        for program, topic in ((language.subscribe, lab.output), (language.dead_letters, lab.dead_letter))
    )
    try:
        seen: dict[str, dict[str, Any]] = {}
        last: dict[int, int] = {}
        while len(seen.keys() & events.keys()) < len(TEXTS):
            line = subscriber.next()
            assert line["key"] != TAKEN_BACK, "a result of an aborted transaction"
            fits(headers_of("result"), line["headers"])
            fits(payload_of("result"), line["result"])
            fits("outputs/text-classification.json", line["result"]["output"])
            source = line["result"]["source"]
            assert last.get(source["partition"], -1) < source["offset"], "out of order, or twice"
            last[source["partition"]] = source["offset"]
            seen[line["result"]["id"]] = line
        traces = {name: seen[name]["headers"]["traceparent"].split("-")[1] for name in seen.keys() & events.keys()}
        assert traces == {name: trace for name, (text, trace) in events.items() if text}
        while True:
            letter = letters.next()
            assert letter["bytes"] != len(json.dumps(TAKEN_BACK)), "a dead letter of an aborted transaction"
            fits(headers_of("deadLetter"), letter["why"])
            assert letter["why"]["streamer.error.code"] == "validate.empty_text"
            why = letter["why"]
            place = int(why["__connect.errors.partition"]), int(why["__connect.errors.offset"])
            if place not in earlier:
                break
        take_back(lab)
        for topic in (lab.output, lab.dead_letter):  # a reader that does not know of transactions sees them
            assert sum(json.loads(message.value()) == TAKEN_BACK for message in read(lab, topic, "read_uncommitted"))
    finally:
        left = [*subscriber.end(), *letters.end()]
    assert left == []
