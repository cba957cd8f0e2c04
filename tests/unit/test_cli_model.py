"""`streamer model inspect`: what is told of a model before it is loaded, and what it answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.demo import model_directory
from streamer.errors import ExitCode
from streamer.inference.models.safety import digest, used_files

ROOT = Path(__file__).parents[2]
MICRO = "package:streamer/demo/models/sentiment-micro"


@pytest.mark.slow
def test_a_model_is_described_and_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """Loaded by a worker, as a run does it."""
    assert main(["model", "inspect", MICRO, "--json", "--set", "options.top_k=2", "--text", "a bad day"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["task"] == "text-classification"
    assert found["labels"] == ["negative", "positive"]
    assert found["max_tokens"] == 96
    assert found["revision"] == digest(model_directory(), used_files(model_directory()))
    assert found["loaded"]["backend"] == found["backend"] == "torch"
    assert 0.4 < found["loaded"]["worker_bytes"] / found["worker_bytes"] < 2.5
    assert found["answered"]["label"] == "negative"
    assert len(found["answered"]["scores"]) == 2
    assert found["asked"] == {"text": "a bad day"}


def test_a_refused_model_is_described_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels and files first, then what is ignored, and why it is refused; nothing is loaded."""
    directory = shutil.copytree(model_directory(), tmp_path / "mine")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    (directory / "modeling_mine.py").touch()
    (directory / "tokenizer.json").unlink()
    assert main(["model", "inspect", str(directory)]) == ExitCode.CONFIGURATION
    told = capsys.readouterr().out
    for words in (
        "BertForSequenceClassification, 2 layers of 128",
        "2: negative, positive",
        "ignored: pytorch_model.bin (formats that can run code",
        "ignored: modeling_mine.py",
        "there is no tokenizer",
    ):
        assert words in told
    assert "only in pytorch_model.bin" in told.splitlines()[-1]


def test_an_open_task_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With those that the network can serve."""
    directory = shutil.copytree(model_directory(), tmp_path / "mine")
    (directory / "README.md").unlink()
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"id2label": {"0": "LABEL_0"}}))
    assert main(["model", "inspect", str(directory)]) == ExitCode.USAGE
    assert "say it with --task: rerank, text-classification" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([MICRO, "--task", "embeding"], "--task: task 'embeding' is unknown"),
        (
            [MICRO, "--set", "options.topk=2"],
            "--set options.topk: task text-classification has no such option; did you",
        ),
        (["acme/tiny"], "acme/tiny@REVISION"),
        (["python:no_such_module:Model"], "there is no module no_such_module"),
    ],
)
def test_mistakes_are_told_at_once(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the name that was given."""
    began = time.monotonic()
    assert main(["model", "inspect", *arguments]) == ExitCode.CONFIGURATION
    assert time.monotonic() - began < 5
    assert words in capsys.readouterr().err


def test_a_class_of_ones_own(capfd: pytest.CaptureFixture[str]) -> None:
    """It needs no task, and a text that it fails is told by its code."""
    reference = "python:tests.python_models:Obedient"
    assert main(["model", "inspect", reference, "--text", "7"]) == ExitCode.DONE
    assert 'answered      {"n": 7}' in capfd.readouterr().out
    assert main(["model", "inspect", reference, "--text", "7 RAISE"]) == ExitCode.SOME_FAILED
    assert "no answer     infer.exception: the model raised" in capfd.readouterr().out


@pytest.mark.parametrize("command", ["run", "infer"])
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("acme/tiny", "acme/tiny@REVISION"),
        ("acme/tiny@main", "40 hex digits"),
        ("python:my_models.Shout", "python:my_models:Shout"),
        ("s3://bucket/tiny", "copy the files to a directory"),
        (".", "has no config.json"),
    ],
)
def test_a_model_that_is_not_there_ends_a_command_before_anything_is_imported_for_it(
    command: str, model: str, words: str, tmp_path: Path
) -> None:
    """Nor is a server asked: there is none."""
    (tmp_path / "streamer.toml").write_text(
        f'[kafka]\nbootstrap_servers = "127.0.0.1:1"\n[pipelines.p]\ntask = "embedding"\nmodel = "{model}"\n'
        'input = "in"\noutput = "out"\n'
    )
    more = ["--pipeline", "p"] if command == "infer" else []
    code = (
        "import sys; from streamer.cli import main;"
        f"sys.stdout.write(str(main({[*command.split(), *more]!r})) + str("
        "[name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert words in ended.stderr
    assert ended.stdout == "3[]" or (command == "run" and ended.returncode == 3)
