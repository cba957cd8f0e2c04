"""The example in docs/own-model.md is typed, answers, says what it refuses, and is identified by its files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import streamer.testing
from streamer.errors import DataFailure
from streamer.inference.models.custom import CustomModel
from streamer.inference.spec import WorkerSpec
from streamer.model import Model

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?:python|text)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, in the working directory."""
    for name, text in BLOCK.findall((ROOT / "docs" / "own-model.md").read_text()):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "complaints", raising=False)
    return tmp_path


def ask(model: CustomModel, *events: tuple[str, dict[str, Any] | None]) -> list[Any]:
    """The output of each event, or its code."""
    encoded = model.encode([text for text, _ in events], None, [params for _, params in events])
    return [one.code.value if isinstance(one, DataFailure) else one for one in encoded]


def load() -> CustomModel:
    return CustomModel(WorkerSpec("p", "complaints", "python:complaints:Complaints"), "complaints", "Complaints")


def test_the_example_answers_and_is_identified_by_its_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another list of words is another model."""
    model = load()
    ready, refused = ask(model, ("It never came!", {"least": 1}), ("Oh", {"much": 1}))
    assert refused == "validate.params"
    (answer,) = model.forward([ready])
    assert json.loads(answer.output) == {"label": "complaint", "words": ["never"]}  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="no words"):
        model.forward(ask(model, ("?", None)))
    assert model.card.shared
    (folder / "complaints.txt").write_text("slow")
    monkeypatch.delitem(sys.modules, "complaints")
    assert load().card.revision != model.card.revision


def test_the_contract_is_typed(folder: Path) -> None:
    """As mypy --strict reads the example; and what breaks the contract is told before it is served."""
    example = (folder / "complaints.py").read_text()
    wrong = example.replace("inputs: list[Input]) -> list[dict[str, Any]]", "inputs: list[str]) -> list[str]")
    (folder / "wrong.py").write_text(wrong.replace('files = ["complaints.txt"]', "files = 7"))
    alone = folder / "typed" / "streamer"  # mypy would read all that the package refers to
    alone.mkdir(parents=True)
    (alone / "__init__.py").touch()
    (alone / "py.typed").touch()
    shutil.copy(ROOT / "streamer" / "model.py", alone)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "complaints.py", "wrong.py"],
        capture_output=True,
        text=True,
        timeout=300,
        env={"MYPYPATH": str(alone.parent), "PATH": ""},
    )
    assert "complaints.py" not in done.stdout
    assert re.search(r"wrong.py.*Argument 1 of .predict. is incompatible", done.stdout), done.stdout + done.stderr
    assert re.search(r"wrong.py.*Incompatible types in assignment", done.stdout)


def test_the_contract_imports_nothing_heavy() -> None:
    """A class is typed against it in programs that have no torch."""
    code = "import sys, streamer.model; print([n for n in ('torch', 'numpy', 'msgspec', 'click') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_class_that_says_nothing_has_the_defaults() -> None:
    """Which are those of a class without the base."""

    class Bare(Model):
        def predict(self, inputs: list[Any]) -> list[dict[str, Any]]:
            return [{} for _ in inputs]

    bare = Bare({})
    assert (bare.files, bare.version, bare.cacheable) == (None, None, True)
    assert bare.check_params({"x": "a value"}) == "param 'x' is unknown: the model takes none"
    with pytest.raises(TypeError, match="predict"):
        Model({})  # type: ignore[abstract]


@pytest.mark.skipif(not hasattr(streamer.testing, "run_pipeline"), reason="needs streamer.testing.run_pipeline")
def test_the_test_of_the_page_passes(folder: Path) -> None:
    """In its own process, as a user runs it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_complaints.py"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(ROOT), "PATH": ""}
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
