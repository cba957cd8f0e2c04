"""`streamer init`: from a model to a configuration that runs, in a folder of its own."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.config.load import load
from streamer.demo import model_directory
from streamer.errors import ExitCode
from tests.conftest import Kafka

ROOT = Path(__file__).parents[2]
SHOUT = """
from typing import Any

from streamer.model import Input, Model


class Shout(Model):
    files = []

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        return [{"text": one.text.upper()} for one in inputs]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a `streamer` of this checkout on the path."""
    script = tmp_path / "bin" / "streamer"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m streamer "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("STREAMER_TELEMETRY__HTTP", "")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def typed(arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """`streamer init` on a terminal that these lines are typed into: its exit code, and all that it says."""
    ours, theirs = pty.openpty()
    command = ["streamer", "init", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        os.close(theirs)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        assert process.stdout is not None
        said = process.stdout.read()
        code = process.wait(60)
    os.close(ours)
    return code, said


def test_the_commands_that_it_prints_give_the_first_result(folder: Path, kafka: Kafka) -> None:
    """Asked for the model alone, with an answer that is wrong at first; all else by its defaults."""
    shutil.copytree(model_directory(), folder / "models" / "sentiment")
    topic = f"init-{uuid.uuid4().hex[:8]}"
    code, said = typed(
        ["--bootstrap-servers", kafka.bootstrap_servers],
        ["models/sentment", "models/sentiment", "", topic, "", ""],
    )
    assert code == 0, said
    assert "is not a directory" in said
    assert "task text-classification: config.json has the architecture BertForSequenceClassification" in said
    file = (folder / "streamer.toml").read_text()
    assert max(map(len, file.splitlines())) <= 120
    assert 'model = "models/sentiment"' in file
    pipeline = load().pipelines["sentiment"]
    assert (pipeline.input, pipeline.output) == ([topic], f"{topic}.sentiment")
    commands = [line for line in said.splitlines() if line.startswith("  ")][-3:]
    for command in commands:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert '{"label": "positive"' in done.stdout


def test_a_class_of_ones_own_off_a_terminal(folder: Path) -> None:
    """The flags say all; `config check` and `infer` take what was written, and a second call does not replace it."""
    (folder / "my_models.py").write_text(SHOUT)
    init = ["streamer", "init", "--model", "python:my_models:Shout", "--input", "texts", "-o", "own.toml"]
    done = subprocess.run(init, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "streamer run --config own.toml --until-end" in done.stdout
    subprocess.run(["streamer", "config", "check", "-c", "own.toml"], check=True, timeout=60)
    infer = ["streamer", "infer", "-c", "own.toml", "--pipeline", "shout", "--text"]
    answered = subprocess.run(infer, input="aloud\n", capture_output=True, text=True, timeout=60)
    assert json.loads(answered.stdout)["output"] == {"text": "ALOUD"}, answered.stderr
    before = (folder / "own.toml").read_text()
    again = subprocess.run(init, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert again.returncode == 2
    assert "--force replaces it" in again.stderr
    assert (folder / "own.toml").read_text() == before


MICRO = "package:streamer/demo/models/sentiment-micro"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], ExitCode.USAGE, "give --model and --input"),
        (["--model", MICRO], ExitCode.USAGE, "give --input"),
        (["--model", "acme/tiny@main", "--input", "a"], ExitCode.CONFIGURATION, "40 hex digits"),
        (
            ["--model", MICRO, "--input", "a b"],
            ExitCode.CONFIGURATION,
            "streamer.toml: pipelines.sentiment-micro.input",
        ),
        (["--model", MICRO, "--input", "a", "--name", "été"], ExitCode.USAGE, "--name 'été': a pipeline's name has"),
        (["--model", MICRO, "--input", "a", "-o", "no/a.toml"], ExitCode.USAGE, "there is no folder no; make it"),
        (["--model", MICRO, "--input", "a", "--task", "x"], ExitCode.CONFIGURATION, "task 'x' is unknown"),
        (["--model", MICRO, "--input", "a", "--cache-url", "redis://:p@h"], ExitCode.USAGE, "cache.url_file"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    folder: Path,
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the flag or the field, not by the name of a draft."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["init", *arguments]) == code
    assert words in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_model_that_no_run_would_take_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the words of `config check`, which the file would be given to next."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    shutil.copytree(model_directory(), folder / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    assert main(["init", "--model", "model", "--input", "a"]) == ExitCode.CONFIGURATION
    assert f"streamer.toml: pipelines.model.model: {folder / 'model'} has no tokenizer" in capsys.readouterr().err
    assert not (folder / "streamer.toml").exists()


def test_a_name_that_is_typed_wrong_is_asked_for_again(folder: Path) -> None:
    """A name that TOML would read as two."""
    code, said = typed(["--model", MICRO, "--input", "a", "--output", "b"], ["reviews.de", "reviews-de", "", ""])
    assert code == 0, said
    assert "a pipeline's name has letters" in said
    assert list(load(folder / "streamer.toml").pipelines) == ["reviews-de"]
