"""What a configuration asks of its models, refused before anything is loaded: by place, with what there is instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.cli import main
from streamer.errors import ExitCode, ModelError
from streamer.inference.models.checks import CONVERTED, WINDOWED, check
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import TASKS, import_family, load
from streamer.inference.tasks.option_values import refusals
from streamer.inference.tasks.options import OPTIONS
from tests.tiny_models import BERT, tiny

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

WRONG: list[tuple[str, str, list[str]]] = [
    ("task = 'embeding'", "task", ["'embeding' is unknown", "embedding, similarity", "python: model"]),
    ("task = 'ner'", "task", ['did you mean "token-classification"?']),
    ("on_overflow = 'window'", "on_overflow", ["fill-mask can't read", "truncate or reject"]),
    ("backend = 'openvino'", "backend", ["fill-mask reaches into its network"]),
    ("options.topk = 3", "options.topk", ['did you mean "top_k"?', "it has special_tokens_in_text, top_k"]),
    ("options.top_k = 'many'", "options.top_k", ["it must be a whole number from 1 to 1000"]),
    ("options.top_k = 0", "options.top_k", ["it must be a whole number from 1 to 1000"]),
    ("options.special_tokens_in_text = 'none'", "options.special_tokens_in_text", ['one of "text", "control"']),
]
COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "check": lambda path: ["config", "check", "--config", path],
    "run": lambda path: ["run", "--config", path],
    "doctor": lambda path: ["doctor", "--no-model", "--config", path],
    "infer": lambda path: ["infer", "--pipeline", "words", "--config", path, path],
}


def configuration(directory: Path, line: str, model: str = "/no/such/directory") -> str:
    """The path of a configuration of one pipeline with this line in it."""
    path = directory / "streamer.toml"
    task = "" if line.startswith("task") else "task = 'fill-mask'\n"
    path.write_text(
        f"telemetry.http = ''\n[pipelines.words]\ninput = 'a'\noutput = 'b'\nmodel = '{model}'\n{task}{line}\n"
    )
    return str(path)


@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize(("line", "place", "parts"), WRONG, ids=[line for line, *_ in WRONG])
def test_every_command_says_what_is_wrong(
    line: str, place: str, parts: list[str], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As other errors of the configuration, with exit code 3; the model need not even be there."""
    path = configuration(tmp_path, line)
    assert main(COMMANDS[command](path)) == ExitCode.CONFIGURATION
    printed = "".join(capsys.readouterr())
    assert f"{path}: pipelines.words.{place}: " in printed
    assert all(part in printed for part in parts)


def test_a_flag_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that was given on the command line."""
    arguments = ["infer", "--task", "embedding", "--model", str(tmp_path), "--option", "poling=cls"]
    assert main(arguments) == ExitCode.CONFIGURATION
    assert '--option poling: task embedding has no such option; did you mean "pooling"?' in (capsys.readouterr().err)


def test_a_value_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes of the command line that are no text."""
    arguments = ["infer", "--task", "embedding", "--model", str(tmp_path), "--option", "prompt=\udcff"]
    assert main(arguments) == ExitCode.CONFIGURATION
    assert "--option prompt: the value is not UTF-8" in capsys.readouterr().err


def test_all_problems_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one pipeline too; the fourth is the model, which is not there."""
    path = configuration(tmp_path, "options = { a = 1, b = 2 }\non_overflow = 'window'")
    assert main(["config", "check", "--config", path]) == ExitCode.CONFIGURATION
    assert "4 problems in the configuration" in capsys.readouterr().err


def test_the_users_own_classes_take_what_they_like(tmp_path: Path) -> None:
    """Task and options are theirs."""
    for model in ("python:tests.python_models:Obedient", "builtin:null"):
        path = configuration(tmp_path, "task = 'mine'\non_overflow = 'window'\noptions.anything = [1]", model)
        assert main(["config", "check", "--config", path]) == ExitCode.DONE


@pytest.mark.parametrize(("task", "kind"), OPTIONS.items(), ids=list(OPTIONS))
def test_every_default_is_a_value_that_is_taken(task: str, kind: Any) -> None:
    """And every value of the wrong kind is refused by its name, without the words of a parser."""
    given = {name: value for name, value in msgspec.to_builtins(kind()).items() if value is not None}
    assert list(refusals(kind, given, task)) == []
    for name in msgspec.structs.fields(kind):
        ((option, text),) = refusals(kind, {name.name: {"no": "such"}}, task)
        assert (option, bool(text)) == (name.name, True)
        assert "Expected" not in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": "embedding", "backend": "openvino", "compile": True}, "compile = true is torch's"),
        ({"task": "embedding", "backend": "openvino", "device": "cuda:1"}, "the device is cuda:1"),
        ({"task": "text-generation", "backend": "openvino"}, "task text-generation reaches into its network"),
        ({"task": "embedding", "backend": "openvino"}, ""),
        ({"task": "embedding", "compile": True, "device": "cuda:1"}, ""),
    ],
)
def test_what_openvino_can_run(changes: dict[str, Any], expected: str) -> None:
    """As far as it is known before a start."""
    found = list(check(msgspec.structs.replace(WorkerSpec("p", "embedding", "/no/such"), **changes)))
    assert [place for place, _ in found] == ([("backend",)] if expected else [])
    assert all(expected in text for _, text in found)


def test_more_dimensions_than_the_network_has(tmp_path: Path) -> None:
    """Read from config.json where nothing comes behind the network; else a start says it."""
    path = tiny(tmp_path, BERT, "")
    wide = WorkerSpec("p", "embedding", str(path), options={"dimensions": 33})
    assert [(place, "32" in text) for place, text in check(wide)] == [(("options", "dimensions"), True)]
    assert list(check(msgspec.structs.replace(wide, options={"dimensions": 32}))) == []
    (path / "modules.json").write_text(json.dumps([]))
    assert list(check(wide)) == []


@pytest.mark.parametrize("task", TASKS)
def test_a_load_checks_the_same(task: str) -> None:
    """Tasks that are served are those that are known; and a worker refuses what the driver let pass."""
    assert task in OPTIONS
    assert import_family(task)
    with pytest.raises(ModelError, match=r"options\.no_such: task "):
        load(WorkerSpec("p", task, str(Path(__file__).parent), options={"no_such": 1}))


def test_sets_of_tasks_are_tasks() -> None:
    """None is misspelt."""
    assert set(OPTIONS) == set(TASKS)
    assert set(TASKS) >= WINDOWED
    assert set(TASKS) >= CONVERTED
