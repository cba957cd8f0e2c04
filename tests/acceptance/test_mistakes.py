"""Typical mistakes, as people make them on the command line: each ends at once with a sentence that names the thing and
the fix, and with the documented exit code.

What needs no network imports neither torch nor the Kafka client and starts no process: that is what keeps it quick.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

import streamer
from streamer.errors import ExitCode
from tests.conftest import Kafka

WITHIN_S = 120
MICRO = Path(streamer.__path__[0], "demo", "models", "sentiment-micro")
COMMIT = "0123456789012345678901234567890123456789"
CLASSIFY = ["infer", "--task", "text-classification", "--model"]

FILE = """
telemetry = { http = "" }
[pipelines.sentiment]
task = "text-classification"
model = "models/micro"
input = "reviews"
output = "reviews.sentiment"
"""
FILES = {
    "streamer.toml": FILE,
    "syntax.toml": "[pipelines.sentiment]\ntask = text-classification\n",
    "field.toml": FILE + "wokers = 2\n",
    "absent.toml": FILE.replace("models/micro", "models/mirco"),
    "events.jsonl": '{"text": "What a fine day"}\n',
    "reviews.csv": "id,review\n1,What a fine day\n",
    "latin.jsonl": '{"text": "caf\xe9"}\n',
    "my_models.py": "class Sentiment:\n    def predict(self, inputs):\n        return [{} for _ in inputs]\n",
}


class Mistake(NamedTuple):
    """What was typed, what it ends with, and what must be said: the thing, and the fix."""

    arguments: list[str]
    code: ExitCode
    words: tuple[str, ...]
    environment: dict[str, str] = {}
    spared: bool = True
    """Whether the Kafka client stays out; torch always does."""


QUICK: dict[str, Mistake] = {
    "a task that does not exist": Mistake(
        ["run", "--set", "pipelines.sentiment.task=text-clasification"],
        ExitCode.CONFIGURATION,
        ("text-clasification", 'did you mean "text-classification"?'),
    ),
    "a misspelt option of the task": Mistake(
        [*CLASSIFY, "models/micro", "--option", "topk=3", "events.jsonl"],
        ExitCode.CONFIGURATION,
        ("--option topk", 'did you mean "top_k"?'),
    ),
    "a model without a tokenizer": Mistake(
        [*CLASSIFY, "models/mute", "events.jsonl"],
        ExitCode.CONFIGURATION,
        ("--model: ", "models/mute has no tokenizer", "add tokenizer.json"),
    ),
    "a model with pickled weights alone": Mistake(
        [*CLASSIFY, "models/pickle", "events.jsonl"],
        ExitCode.CONFIGURATION,
        ("only in pytorch_model.bin", "save them as safetensors"),
    ),
    "a model's directory that does not exist": Mistake(
        ["run", "--config", "absent.toml"],
        ExitCode.CONFIGURATION,
        ("absent.toml: pipelines.sentiment.model", "{folder}/models/mirco", "a model is a directory"),
    ),
    "a model of the hub without its commit": Mistake(
        [*CLASSIFY, "org/name", "events.jsonl"],
        ExitCode.CONFIGURATION,
        ("not a directory in {folder}", "org/name@REVISION"),
    ),
    "a model of the hub by its branch": Mistake(
        [*CLASSIFY, "org/name@main", "events.jsonl"],
        ExitCode.CONFIGURATION,
        ("org/name@main", "full commit of 40 hex digits"),
    ),
    "a model of the hub that is not here, on a machine without network": Mistake(
        [*CLASSIFY, f"org/name@{COMMIT}", "events.jsonl"],
        ExitCode.CONFIGURATION,
        (f"org/name@{COMMIT}", "is not in the", f"hf download org/name --revision {COMMIT}"),
        {"HF_HUB_OFFLINE": "1"},
    ),
    "a class that does not exist": Mistake(
        ["config", "check", "--set", "pipelines.sentiment.model=python:my_models:Sentimnt"],
        ExitCode.CONFIGURATION,
        ("my_models.py has no class Sentimnt", "did you mean Sentiment?"),
    ),
    "a port that is in use": Mistake(
        ["config", "check", "--set", "telemetry.http=127.0.0.1:{port}"],
        ExitCode.CONFIGURATION,
        ("telemetry.http", "127.0.0.1:{port}", "another port"),
    ),
    "a typo in a variable": Mistake(
        ["run"],
        ExitCode.CONFIGURATION,
        ("STREAMER_KAFKA__BOOTSTRAP_SERVER:", "did you mean STREAMER_KAFKA__BOOTSTRAP_SERVERS?"),
        {"STREAMER_KAFKA__BOOTSTRAP_SERVER": "broker:9092"},
    ),
    "a typo in a variable's pipeline": Mistake(
        ["run"],
        ExitCode.CONFIGURATION,
        ("STREAMER_PIPELINES__SENTIMNT__WORKERS", "did you mean STREAMER_PIPELINES__SENTIMENT__WORKERS?"),
        {"STREAMER_PIPELINES__SENTIMNT__WORKERS": "2"},
    ),
    "a misspelt pipeline": Mistake(
        ["run", "--pipeline", "sentimnt"], ExitCode.USAGE, ("no pipeline sentimnt", "did you mean sentiment?")
    ),
    "a misspelt pipeline of a job": Mistake(
        ["infer", "--pipeline", "sentimnt", "events.jsonl", "-o", "out.jsonl"],
        ExitCode.USAGE,
        ("no pipeline sentimnt", "did you mean sentiment?"),
    ),
    "a misspelt command": Mistake(["runn"], ExitCode.USAGE, ("'runn'", "Did you mean run?")),
    "a misspelt command of a command": Mistake(["config", "chek"], ExitCode.USAGE, ("'chek'", "Did you mean check?")),
    "a misspelt option": Mistake(["run", "--untilend"], ExitCode.USAGE, ("--untilend", "--until-end")),
    "a file that is no TOML": Mistake(
        ["run", "--config", "syntax.toml"], ExitCode.CONFIGURATION, ("syntax.toml: not TOML", "line 2", "quotes")
    ),
    "a field that does not exist": Mistake(
        ["run", "--config", "field.toml"],
        ExitCode.CONFIGURATION,
        ("field.toml: pipelines.sentiment.wokers: unknown field", 'did you mean "workers"?'),
    ),
    "a configuration that does not exist": Mistake(
        ["run", "--config", "steamer.toml"], ExitCode.CONFIGURATION, ("steamer.toml", "name another with --config")
    ),
    "a folder for the output that does not exist": Mistake(
        [*CLASSIFY, "models/micro", "events.jsonl", "-o", "results/out.jsonl"],
        ExitCode.USAGE,
        ("results/out.jsonl: there is no folder results", "make it"),
    ),
    "a place for the output that can't be written": Mistake(
        [*CLASSIFY, "models/micro", "events.jsonl", "-o", "reviews.csv/out.jsonl"],
        ExitCode.USAGE,
        ("reviews.csv is a file", "name a place in a folder"),
    ),
    "an input that does not exist": Mistake(
        [*CLASSIFY, "models/micro", "event.jsonl", "-o", "out.jsonl"], ExitCode.USAGE, ("there is no file event.jsonl",)
    ),
    "a column that does not exist": Mistake(
        [*CLASSIFY, "models/micro", "reviews.csv", "--text-field", "body", "-o", "out.jsonl"],
        ExitCode.USAGE,
        ("reviews.csv has no column 'body'", "it has id, review", "--text-field"),
    ),
    "a URL of Redis that is none": Mistake(
        ["run", "--set", "cache.url=localhost:6379"],
        ExitCode.CONFIGURATION,
        ("cache.url", "write redis://HOST:PORT/DATABASE"),
    ),
    "a property of the Kafka client that does not exist": Mistake(
        ["config", "check", "--set", "kafka.properties.sasl.pasword=secret"],
        ExitCode.CONFIGURATION,
        ("kafka.properties.sasl.pasword", "correct or remove that property"),
        spared=False,
    ),
}
"""Of these nothing needs the network."""

# Runs each of a list of commands in a fork of an interpreter that has imported the command line alone.
RUNNER = """
import json, os, sys
import streamer.cli.config, streamer.cli.infer, streamer.cli.options, streamer.cli.run
def attempt(place, arguments, environment):
    for fd, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{place}.{name}", os.O_WRONLY | os.O_CREAT), fd)
    os.environ.update(environment)
    started = []
    ways = ("subprocess.Popen", "os.fork", "os.posix_spawn")
    sys.addaudithook(lambda event, _: event in ways and started.append(event))
    from streamer.cli import main
    try:
        code = main(arguments)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
    loaded = [name for name in ("torch", "transformers", "confluent_kafka") if name in sys.modules]
    with open(f"{place}.json", "w") as file:
        json.dump({"code": code, "started": started, "loaded": loaded}, file)
for place, (arguments, environment) in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if not child:
        try:
            attempt(place, arguments, environment)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


class Told(NamedTuple):
    """How a command ended."""

    code: int
    text: str
    started: list[str]
    loaded: list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a configuration, files, a model, and two that lack something."""
    path = tmp_path_factory.mktemp("user")
    for name, text in FILES.items():
        (path / name).write_text(text, encoding="latin-1")
    for name in ("micro", "mute", "pickle"):
        shutil.copytree(MICRO, path / "models" / name)
    for file in (path / "models" / "mute").glob("tokenizer*"):
        file.unlink()
    (path / "models" / "pickle" / "model.safetensors").rename(path / "models" / "pickle" / "pytorch_model.bin")
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a user who has set nothing of ours, with empty caches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMER_", "HF_"))}
    paths = [str(Path(streamer.__path__[0]).parent), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"HF_HOME": str(tmp_path_factory.mktemp("hub")), "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(scope="module")
def told(
    folder: Path, environment: dict[str, str], taken_port: int, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Told]:
    """What each of the quick mistakes comes to."""
    place = tmp_path_factory.mktemp("told")
    asked = [
        [[each.format(port=taken_port) for each in mistake.arguments], mistake.environment]
        for mistake in QUICK.values()
    ]
    runner = RUNNER.replace('f"{place}.', f'f"{place}/{{place}}.')
    subprocess.run(
        [sys.executable, "-c", runner],
        input=json.dumps(asked),
        text=True,
        cwd=folder,
        env=environment,
        check=True,
        timeout=WITHIN_S,
    )
    found = {}
    for number, name in enumerate(QUICK):
        text = "".join((place / f"{number}.{stream}").read_text() for stream in ("out", "err"))
        ended = place / f"{number}.json"
        facts: dict[str, Any] = json.loads(ended.read_text()) if ended.exists() else {"code": -1}
        found[name] = Told(facts["code"], text, facts.get("started", []), facts.get("loaded", []))
    return found


@pytest.mark.parametrize("name", QUICK)
def test_a_mistake_is_told_at_once(name: str, told: dict[str, Told], folder: Path, taken_port: int) -> None:
    """One sentence, or click's three lines of usage; no traceback, nothing started, nothing heavy imported."""
    mistake, ended = QUICK[name], told[name]
    assert ended.code == mistake.code, ended.text
    for words in mistake.words:
        assert words.format(folder=folder, port=taken_port) in ended.text
    lines = [line for line in ended.text.splitlines() if line and not line.startswith(("Usage: ", "Try '"))]
    assert len(lines) == 1, ended.text
    assert ended.started == []
    assert ended.loaded == ([] if mistake.spared else ["confluent_kafka"])


def test_a_mistake_leaves_nothing_behind(told: dict[str, Told], folder: Path) -> None:
    """No part of an output, which the next try would find."""
    assert told
    assert {path.name for path in folder.iterdir()} == {*FILES, "models"}


def spoken(folder: Path, environment: dict[str, str], arguments: list[str]) -> tuple[int, str]:
    """The exit code of a command and all that it said."""
    command = [sys.executable, "-m", "streamer", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=WITHIN_S)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout + ended.stderr


NULL = ["--set", "pipelines.sentiment.model=builtin:null"]
"""A model that loads at once: what is waited for is the network."""


def test_a_broker_that_is_down(folder: Path, environment: dict[str, str]) -> None:
    """By its address, with the field to correct."""
    arguments = ["run", *NULL, "--set", "kafka.bootstrap_servers=127.0.0.1:1"]
    code, text = spoken(folder, environment, arguments)
    assert code == ExitCode.DEPENDENCY
    assert "Kafka at 127.0.0.1:1 does not answer" in text
    assert "kafka.bootstrap_servers" in text


def test_topics_that_are_missing(kafka: Kafka, folder: Path, environment: dict[str, str]) -> None:
    """All of them, with the command that makes them."""
    name = f"mistakes-{uuid4().hex[:8]}"
    given = [f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"pipelines.sentiment.input={name}"]
    given += [f"pipelines.sentiment.output={name}.out"]
    code, text = spoken(folder, environment, ["run", *NULL, *(f"--set={each}" for each in given)])
    assert code == ExitCode.CONFIGURATION
    for topic in (name, f"{name}.out", f"{name}.out.dlq"):
        assert f"{topic}: does not exist" in text
    assert "streamer topics create" in text


def test_a_way_to_log_in_that_the_broker_does_not_have(kafka: Kafka, folder: Path, environment: dict[str, str]) -> None:
    """A password for a broker that asks for none; the password is not said."""
    given = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": "hunter2",
    }
    properties = [f"--set=kafka.properties.{name}={value}" for name, value in given.items()]
    server = f"--set=kafka.bootstrap_servers={kafka.bootstrap_servers}"
    code, text = spoken(folder, environment, ["topics", "check", *NULL, server, *properties])
    assert code in (ExitCode.CONFIGURATION, ExitCode.DEPENDENCY)
    assert kafka.bootstrap_servers in text
    assert "security.protocol" in text
    assert "hunter2" not in text


def test_an_input_that_is_not_utf8(folder: Path, environment: dict[str, str]) -> None:
    """Its line alone fails, by its number, with the code of a dead letter."""
    arguments = ["infer", "--task", "t", "--model", "builtin:null", "latin.jsonl"]
    code, text = spoken(folder, environment, arguments)
    assert code == ExitCode.SOME_FAILED
    assert '"line":1' in text
    assert "decode.utf8" in text
