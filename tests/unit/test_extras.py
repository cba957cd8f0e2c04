"""No advice installs a stranger's package."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from streamer import extras
from streamer.extras import DISTRIBUTION, LIBRARIES, absent, advice, install_command

ROOT = Path(__file__).parents[2]
OTHERS = {"confluent-kafka", "sentencepiece", "tiktoken", "peft", "openvino"}
ADVICE = re.compile(r"pip install ((?:--?[\w-]+ )*)['\"]?([A-Za-z{][\w.{}-]*)")


def test_every_advice_names_our_distribution_or_a_package_that_is_meant() -> None:
    """In code and in the documents."""
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *(ROOT / "streamer").rglob("*.py")]
    named = {(path.name, name) for path in texts for _, name in ADVICE.findall(path.read_text())}
    assert named
    locks = {path.name for path in ROOT.glob("requirements*.txt")}
    meant = OTHERS | locks | {DISTRIBUTION}
    wrong = {(path, name) for path, name in named if name not in meant and not name.startswith("{")}
    assert not wrong


def test_no_text_asks_for_an_extra_of_another_distribution() -> None:
    """`streamer[console]` is somebody else's."""
    folders = [path for name in ("docs", "deploy", "streamer") for path in (ROOT / name).rglob("*")]
    texts = [*ROOT.glob("*.md"), *(path for path in folders if path.suffix in {".md", ".py", ".service", ".yaml"})]
    assert any(path.suffix == ".service" for path in texts)
    assert not [path.name for path in texts if re.search(r"\bstreamer\[", path.read_text())]


def test_the_name_and_the_extras_are_the_projects() -> None:
    """The name is the one in pyproject.toml, and every extra that the code names is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    extras = project["optional-dependencies"]
    assert LIBRARIES.keys() == extras.keys() - {"all"}
    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything.partition("[")[2])) == LIBRARIES.keys()
    code = "\n".join(path.read_text() for path in (ROOT / "streamer").rglob("*.py"))
    asked = set(re.findall(r"(?:install_command|absent)\([\"'](\w+)|require\([^)]*\"(\w+)\"\)", code))
    assert {"cpu", "console", "demo"} <= {name for pair in asked for name in pair if name} <= extras.keys()


def test_what_an_extra_is_looked_for_by_is_installed_with_it() -> None:
    """In the environment of the tests, which has all; a name that is misspelt would be missing for ever."""
    assert {extra: absent(extra) for extra in LIBRARIES} == dict.fromkeys(LIBRARIES, ())


def test_a_module_without_a_spec_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is imported, faust is one. None stands for a module that can't be imported."""
    monkeypatch.setitem(sys.modules, "faust", ModuleType("faust"))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert (absent("health"), absent("console")) == ((), ("uvicorn",))


def test_advice_is_only_given_for_the_modules_of_extras() -> None:
    """A module of the user's own, or one of ours that is gone, is not ours to install."""
    assert (
        advice(ModuleNotFoundError(name="torch.nn"))
        == f"torch is not installed; install it with {install_command('inference')}"
    )
    others = ModuleNotFoundError(name="mine"), ModuleNotFoundError("no name"), ImportError(name="torch"), OSError()
    assert [advice(error) for error in others] == [""] * 4


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({}, [f"{DISTRIBUTION}[cpu]"]),
        ({"url": "file:///a%20b/s.whl", "archive_info": {}}, [f"{DISTRIBUTION}[cpu] @ file:///a%20b/s.whl"]),
        ({"url": "file:///a%20b/src", "dir_info": {"editable": True}}, ["--editable", "/a b/src[cpu]"]),
        ({"url": "file:///src", "dir_info": {}}, ["/src[cpu]"]),
        (None, ["--editable", f"{ROOT}[cpu]"]),
    ],
)
def test_it_installs_from_where_this_came_from(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None, expected: list[str]
) -> None:
    """In the environment of the Python that runs, whatever its name needs quoted."""
    monkeypatch.setattr(extras, "_origin", lambda: origin)
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    assert shlex.split(install_command("cpu")) == ["/my env/bin/python", "-m", "pip", "install", *expected]
