"""`streamer config check`: what can be found of models, classes and ports without a broker and without torch."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamer.cli import main
from streamer.errors import ExitCode
from streamer.inference.models.inspect import look
from streamer.inference.models.presence import OF_NO_FILES, model_problem

MICRO = "package:streamer/demo/models/sentiment-micro"
HUB = "org/name@0123456789012345678901234567890123456789"
HEAVY = ("torch", "transformers", "tokenizers", "confluent_kafka")


def checked(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command says of a configuration, as JSON; its exit code agrees."""
    (folder / "streamer.toml").write_text(text)
    code = main(["config", "check", "--json", "--config", str(folder / "streamer.toml")])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (ExitCode.DONE if found["ok"] else ExitCode.CONFIGURATION)
    return found


def pipeline(name: str = "p", model: str = "builtin:null", more: str = "") -> str:
    """One pipeline."""
    return f"[pipelines.{name}]\ntask = 'embedding'\nmodel = '{model}'\ninput = 'in'\noutput = '{name}.out'\n{more}\n"


def test_all_problems_come_in_one_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of fields, of what they must hold together, of the task and of this machine."""
    more = "workers = 'x'\n" + pipeline("q", "no/such", "slot = '.'") + "[pipelines.q.options]\npoling = 'cls'\n"
    found = checked(tmp_path, pipeline(more=more), capsys)
    file = tmp_path / "streamer.toml"
    places = [problem["where"].removeprefix(f"{file}: pipelines.") for problem in found["problems"]]
    assert places == ["p.workers", "q.slot", "q.options.poling", "q.model"]
    assert found["problems"][2]["fix"].startswith('did you mean "pooling"?')
    assert str(tmp_path / "no/such") in found["problems"][3]["problem"]


def test_a_file_that_is_no_toml_is_told_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its line."""
    (problem,) = checked(tmp_path, "[kafka\n", capsys)["problems"]
    assert problem["where"] == str(tmp_path / "streamer.toml")
    assert "line 1" in problem["problem"]


def test_without_a_problem_it_names_the_pipelines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And loads nothing heavy on the way."""
    (tmp_path / "streamer.toml").write_text("telemetry.http = ''\n" + pipeline(model=MICRO))
    code = (
        "import sys; from streamer.cli import main; code = main(['config', 'check', '--json']);"
        f"print([code, *(name for name in {HEAVY} if name in sys.modules)])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    first, last = ended.stdout.splitlines()
    assert json.loads(first) == {"ok": True, "pipelines": ["p"], "warnings": []}
    assert last == "[<ExitCode.DONE: 0>]" or last == "[0]"


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By somebody else; the second pipeline takes the port behind it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f"telemetry.http = '127.0.0.1:{port - 1}'\n" + pipeline() + pipeline("q")
        found = checked(tmp_path, text, capsys)["problems"]
    problem = found[-1]  # the port before it may be another program's at this moment
    assert problem["where"].endswith("telemetry.http")
    assert problem["problem"] == f"can't listen on 127.0.0.1:{port}: it is taken or not ours"
    assert "another port" in problem["fix"]


def test_a_key_that_can_not_be_read_or_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a cache that is shared; below a file no other can be."""
    text = "cache = { url = 'redis://cache:6379', key_file = 'streamer.toml/key' }\ntelemetry.http = ''\n" + pipeline()
    (problem,) = checked(tmp_path, text, capsys)["problems"]
    assert problem["where"].endswith("streamer.toml: cache.key_file")
    assert problem["problem"].startswith(f"{tmp_path}/streamer.toml/key")


def test_what_stops_nothing_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two pipelines that write to one topic, and a variable that nothing reads."""
    monkeypatch.setenv("STREAMER_VERSION", "1.2")
    text = "telemetry.http = ''\n" + pipeline() + pipeline("q").replace("q.out", "p.out")
    warnings = checked(tmp_path, text, capsys)["warnings"]
    assert [one["where"] for one in warnings] == ["environment variable STREAMER_VERSION", "pipelines p and q"]


def test_a_configuration_without_a_pipeline_is_likely_another_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong with it, and nothing would run."""
    (warning,) = checked(tmp_path, "", capsys)["warnings"]
    assert warning["problem"] == "it has no pipeline"


def test_a_property_that_the_client_refuses_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With where it stands."""
    (problem,) = checked(tmp_path, "telemetry.http = ''\n[kafka.properties]\n'sasl.pasword' = 'x'\n", capsys)[
        "problems"
    ]
    assert problem["where"].endswith("streamer.toml: kafka.properties.sasl.pasword")
    assert problem["problem"] == 'No such configuration property: "sasl.pasword"'


@pytest.fixture
def micro(tmp_path: Path) -> Path:
    """A copy of a model by links."""
    source, copy = Path(sys.modules["streamer"].__path__[0], "demo/models/sentiment-micro"), tmp_path / "model"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).symlink_to(file)
    return copy


@pytest.mark.parametrize(
    ("gone", "added", "words"),
    [
        ("config.json", "", "has no config.json"),
        ("model.safetensors", "", "has no *.safetensors"),
        ("model.safetensors", "pytorch_model.bin", "only in pytorch_model.bin, a format that can run code"),
        ("tokenizer.json", "", "has no tokenizer; add tokenizer.json"),
    ],
)
def test_a_directory_that_is_no_model(micro: Path, gone: str, added: str, words: str) -> None:
    """By its path, with what it lacks."""
    assert model_problem(str(micro)) == ""
    (micro / gone).unlink()
    for other in ("vocab.txt", "tokenizer_config.json"):
        if gone == "tokenizer.json":
            (micro / other).unlink(missing_ok=True)
    if added:
        (micro / added).write_bytes(b"x")
    problem = model_problem(str(micro))
    assert words in problem
    assert str(micro) in problem


def test_a_tokenizer_of_no_files_is_none_that_is_missing(micro: Path) -> None:
    """Bytes need no vocabulary; the list is transformers' own."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    found = set()
    for name in {name for name in TOKENIZER_MAPPING_NAMES.values() if name}:
        with suppress(ImportError):  # of what is not installed
            files = getattr(tokenizer_class_from_name(name), "vocab_files_names", {"": ""}).values()
            if not any(isinstance(file, str) for file in files):
                found.add(name)
    assert found
    assert found <= OF_NO_FILES
    (micro / "tokenizer.json").unlink()
    (micro / "tokenizer_config.json").unlink(missing_ok=True)
    (micro / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    assert model_problem(str(micro)) == ""


def test_a_hub_model_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """How to fetch it; a model that is named wrongly says how to name it."""
    assert "hf download org/name --revision" in model_problem(HUB)
    assert "full commit of 40 hex digits" in model_problem("org/name@main")


CLASSES = """
raise RuntimeError("nobody imports this")
class Good:
    def predict(self, inputs): ...
class Mute:
    pass
class Heir(Good):
    pass
Alias = Good
def function(inputs): ...
"""


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("my_models:Good", ""),
        ("my_models:Heir", ""),
        ("my_models:Alias", ""),
        ("a_package.inner:Good", ""),
        ("my_models:Godo", "my_models.py has no class Godo; did you mean Good?"),
        ("my_models:Wholly", "it has Good, Mute, Heir"),
        ("my_models:Mute", "has no method predict"),
        ("my_models:function", "is a function"),
        ("my_model:Good", "there is no module my_model"),
        ("a_package.other:Good", "there is no module a_package.other in "),
        ("broken:Good", "broken.py is not valid Python, in line 1"),
        ("json:JSONDecoder", ""),
    ],
)
def test_a_class_is_looked_for_in_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: str
) -> None:
    """From the working directory too, and without importing it or the package that it lies in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text("raise RuntimeError")
    for name in ("my_models.py", "a_package/inner.py"):
        (tmp_path / name).write_text(CLASSES)
    (tmp_path / "broken.py").write_text("class Good(:\n")
    problem = model_problem(f"python:{reference}")
    assert words in problem
    assert bool(problem) == bool(words)


def test_the_place_of_a_class_is_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the package that it lies in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "a_package" / "inner.py").write_text(CLASSES)
    assert look("python:a_package.inner:Good").place == str(tmp_path / "a_package" / "inner.py")


def test_a_token_callback_that_is_not_there_is_named_by_its_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is imported, and asked for nothing."""
    text = "kafka.oauth_callback = 'json:no_such'\nkafka.properties = {'sasl.mechanism' = 'OAUTHBEARER'}\n"
    (problem,) = checked(tmp_path, text, capsys)["problems"]
    assert problem["where"].endswith("kafka.oauth_callback")
    assert (problem["problem"], problem["fix"]) == ("module json has no function no_such", "name one that it has")
