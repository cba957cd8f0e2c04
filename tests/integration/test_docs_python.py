"""What docs/testing.md and docs/python.md show works, word for word."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import streamer
from streamer.testing import Outcomes

ROOT = Path(__file__).parents[2]
PLUGIN = "streamer.testing.plugin"
NAMED = re.compile(r"^```python\n# ([\w.]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLAIN = re.compile(r"^```python\n(?!# \w)(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = dict(NAMED.findall((ROOT / "docs/testing.md").read_text()))
SNIPPETS = PLAIN.findall((ROOT / "docs/python.md").read_text())

# Runs pytest in a thread that is not the main one.
ON_A_THREAD = """
import sys, threading, pytest
codes = []
thread = threading.Thread(target=lambda: codes.append(pytest.main(sys.argv[1:])))
thread.start()
thread.join()
sys.exit(codes[0])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of docs/testing.md."""
    for name, body in FILES.items():
        if name.endswith(".py"):
            (tmp_path / name).write_text(body)
    return tmp_path


def pytest_in(folder: Path, *arguments: str, start: tuple[str, ...] = ("-m", "pytest")) -> str:
    """What pytest says there; it has the plugin by its name, since nobody may have installed this tree."""
    # `streamer` may be importable by PYTHONPATH alone, and the folder is the working directory of somebody's project.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *start, "-q", "-p", PLUGIN, "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_of_a_test_passes_on_any_thread(folder: Path) -> None:
    """Its model and its tests; the hard ones need processes."""
    assert set(FILES) == {"my_models.py", "test_my_models.py", "hard.py", "test_hard_cases.py", "notebook"}
    assert "4 passed" in pytest_in(folder)
    assert "3 passed" in pytest_in(folder, "test_my_models.py", start=("-c", ON_A_THREAD))


def test_the_notebook_runs_in_a_cell() -> None:
    """Where an event loop runs, as in Jupyter, and where the class has no file."""

    async def cell() -> Outcomes:
        names: dict[str, Any] = {"__name__": "__main__"}
        *lines, last = FILES["notebook"].splitlines()
        exec("\n".join(lines), names)
        outcomes = eval(last, names)
        assert isinstance(outcomes, Outcomes)
        return outcomes

    outcomes = asyncio.run(cell())
    assert outcomes.results[0].output == {"echo": "hello"}
    assert outcomes.dead_letters[0].code == "validate.empty_text"


def test_the_iterator_runs_as_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the class of the other page, in this process, in the place of ./model."""
    first, second = SNIPPETS
    sys.path.insert(0, str(folder))
    try:
        model = import_module("my_models").Size
        exec(first.replace('"./model"', "model"), {"model": model})
        exec(
            second.replace('"python:my_models:Size"', "model"),
            {"model": model, "events": ["a", "\x07"], "streamer": streamer},
        )
    finally:
        sys.path.remove(str(folder))
        del sys.modules["my_models"]
    assert capsys.readouterr().out == ("events/0/0 {'label': 'short'}\nevents/0/1 {'label': 'short'}\n")


def test_the_plugin_is_registered_and_costs_nothing(folder: Path) -> None:
    """It is found by its entry point; a project whose tests do not use it imports none of the product."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"streamer": PLUGIN}
    (folder / "test_other.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    ours = {name for name in sys.modules if name.partition('.')[0] == 'streamer'}\n"
        f"    assert ours == {{'streamer', 'streamer.lazy', 'streamer.testing', {PLUGIN!r}}}\n"
        "    assert not {'torch', 'transformers', 'msgspec', 'confluent_kafka'} & set(sys.modules)\n"
    )
    assert "1 passed" in pytest_in(folder, "test_other.py")


def test_the_tests_of_a_module_share_a_model(folder: Path) -> None:
    """It is made once for each set of arguments."""
    (folder / "counted.py").write_text(
        "made = []\n"
        "class Counted:\n"
        "    def __init__(self, options): made.append(options)\n"
        "    def predict(self, inputs): return [{'n': len(made)} for _ in inputs]\n"
    )
    (folder / "test_counted.py").write_text(
        "import counted, pytest\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_it(run_pipeline, n):\n"
        "    run_pipeline('python:counted:Counted', ['a'])\n"
        "    run_pipeline(counted.Counted, ['a'], options={'x': [1]})\n"
        "    run_pipeline(counted.Counted, ['a'], options={'x': [1]})\n"
        "    assert counted.made == [{}, {'x': [1]}]\n"
        "def test_options_that_were_changed_are_others(run_pipeline):\n"
        "    options = {'x': 2}\n"
        "    run_pipeline(counted.Counted, ['a'], options=options)\n"
        "    options['x'] = 3\n"
        "    run_pipeline(counted.Counted, ['a'], options=options)\n"
        "    assert counted.made[2:] == [{'x': 2}, {'x': 3}]\n"
    )
    assert "3 passed" in pytest_in(folder, "test_counted.py")
