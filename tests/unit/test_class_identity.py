"""A `python:` class is its code and its files: whatever of them changes, its revision does."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import ExitCode, ModelError
from streamer.inference.models import class_identity
from streamer.inference.models.class_identity import identify
from streamer.inference.models.custom import CustomModel
from streamer.inference.models.identity import TASK_VERSIONS, of_task
from streamer.inference.models.reads import Reads
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import TASKS

CLASS = """
import json
from pathlib import Path
{imports}

class Model:
    {head}
    def __init__(self, options):
        {load}
    def predict(self, inputs):
        return [{{"n": 1}} for _ in inputs]
"""
READS = "self.weights = json.loads(Path(__file__).with_name('weights.json').read_text())"
FRESH = """
import sys
import msgspec
from streamer.inference.models.custom import CustomModel
from streamer.inference.spec import WorkerSpec
for reference in sys.argv[2:]:
    spec = WorkerSpec("p", "count", f"python:{reference}", options=msgspec.json.decode(sys.argv[1]))
    print(msgspec.json.encode(CustomModel(spec, *reference.split(":")).card).decode())
"""


def write(folder: Path, name: str, *, imports: str = "", head: str = "pass", load: str = "pass") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(CLASS.format(imports=imports, head=head, load=load))


def cards(folder: Path, *references: str, **options: Any) -> list[ModelCard]:
    """As a worker started in `folder` makes them: in a process that has imported none of it."""
    arguments = [sys.executable, "-c", FRESH, msgspec.json.encode(options).decode(), *references]
    done = subprocess.run(arguments, cwd=folder, env=_environment(), capture_output=True, text=True, check=True)
    return [msgspec.json.decode(line, type=ModelCard) for line in done.stdout.splitlines()]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])}


def card(folder: Path, reference: str = "mine:Model", **options: Any) -> ModelCard:
    (only,) = cards(folder, reference, **options)
    return only


def test_two_classes_of_one_file_and_two_files_of_one_version(tmp_path: Path) -> None:
    """Four classes, four revisions; the same again is the same."""
    write(tmp_path, "two.py")
    with (tmp_path / "two.py").open("a") as file:
        file.write("class Other(Model):\n    pass\n")
    write(tmp_path, "va.py", head='version = "1"')
    write(tmp_path, "vb.py", head='version = "1"')
    references = ("two:Model", "two:Other", "va:Model", "vb:Model")
    first = [one.revision for one in cards(tmp_path, *references)]
    assert len(set(first)) == 4
    assert [one.revision for one in cards(tmp_path, *references)] == first


def test_only_a_class_that_declares_its_files_is_shared(tmp_path: Path) -> None:
    """A version alone says nothing of weights; an empty list says that there are none."""
    for name, head, shared in (
        ("a", "pass", False),
        ("b", 'version = "1"', False),
        ("c", "files = []", True),
        ("d", 'files = ("d.py",)', True),
    ):
        write(tmp_path, f"{name}.py", head=head)
        assert card(tmp_path, f"{name}:Model").shared is shared


def changed(folder: Path, *files: str, content: str = "[2]", **options: Any) -> bool:
    """Whether another content of these files is another revision."""
    before = card(folder, **options).revision
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    return card(folder, **options).revision != before


@pytest.mark.parametrize(
    ("head", "load", "file"),
    [
        ("pass", READS, "weights.json"),
        ("version = '1'", READS, "weights.json"),
        ("pass", "import numpy; self.weights = Path(__file__).with_name('w.npy')", "w.npy"),
        ("pass", "self.later = True", "below/it.safetensors"),
        ("files = ['weights.json']", "pass", "weights.json"),
        ("files = ['data']", "pass", "data/deep/w.txt"),
        ("files = ['data']", "pass", "data/.hidden"),
        ("files = ['data/*.txt']", "pass", "data/w.txt"),
        ("files = ['data/**/*.txt']", "pass", "data/deep/w.txt"),
        ("files = [Path(__file__).parent / 'weights.json']", "pass", "weights.json"),
        ("files = ['mine.py']", READS, "weights.json"),
        ("pass", "self.files = [options['weights']]", "elsewhere.bin"),
        ("files = []", "self.seen = open(options['weights']).read()", "elsewhere.bin"),
        ("pass", "exec(open(Path(__file__).with_name('code.py')).read())", "code.py"),
    ],
)
def test_another_file_is_another_revision(tmp_path: Path, head: str, load: str, file: str) -> None:
    """Declared by class or instance, as file, folder or glob; read while it is made; or weights beside it."""
    write(tmp_path, "mine.py", head=head, load=load)
    for name in ("weights.json", "data/w.txt", "data/deep/w.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[1]")
    for name in ("code.py", "elsewhere.bin"):
        (tmp_path / name).write_text("a = 1")
    content = "a = 2" if file == "code.py" else "[2]"
    assert changed(tmp_path, file, content=content, weights=str(tmp_path / "elsewhere.bin"))


def test_what_it_does_not_read_is_no_part_of_it(tmp_path: Path) -> None:
    """A worker that starts again beside a log that grew is still the same model."""
    write(tmp_path, "mine.py")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    others = ("run.log", "out.jsonl", "other.py", ".venv/w.bin", "venv/w.bin", "__pycache__/w.bin")
    assert not changed(tmp_path, *others)


@pytest.mark.parametrize(
    ("imports", "load", "file"),
    [
        ("import helper", "pass", "helper.py"),
        ("from helper import VALUE", "pass", "helper.py"),
        ("import os, helper as other", "pass", "helper.py"),
        ("import chain", "pass", "helper.py"),
        ("", "import helper", "helper.py"),
        ("import parts.one", "pass", "parts/two.py"),
        ("", "__import__('import' + 'lib').import_module('help' + 'er')", "helper.py"),
    ],
)
def test_another_helper_is_another_revision(tmp_path: Path, imports: str, load: str, file: str) -> None:
    """Imported at the top, later, by another, by a name that no source shows, or a part of an imported package."""
    write(tmp_path, "mine.py", imports=imports, load=load, head="files = []")
    (tmp_path / "parts").mkdir()
    for name in ("helper.py", "parts/__init__.py", "parts/one.py", "parts/two.py"):
        (tmp_path / name).write_text("VALUE = 1\n")
    (tmp_path / "chain.py").write_text("def later():\n    from helper import VALUE\n    return VALUE\n")
    assert changed(tmp_path, file, content="VALUE = 2\n")


def test_a_helper_beside_the_package_is_part_of_it_by_any_name(tmp_path: Path) -> None:
    """Imported while the class is made, by a name that no source shows."""
    write(tmp_path, "own/mine.py", load="__import__('importlib').import_module('help' + 'er')", head="files = []")
    revisions = set()
    for value in (1, 2):
        (tmp_path / "helper.py").write_text(f"VALUE = {value}\n")
        revisions.add(cards(tmp_path, "own.mine:Model")[0].revision)
    assert len(revisions) == 2


@pytest.mark.parametrize("file", ["mine.py", "helper.py", "parts/inner.py"])
def test_a_source_of_the_same_size_and_time_is_read_anew(tmp_path: Path, file: str) -> None:
    """Python would run what it compiled of the one before: the old answers under the new revision."""
    write(tmp_path, "mine.py", imports="import helper, parts.inner\nVALUE = 1", head="files = []")
    (tmp_path / "parts").mkdir()
    for name in ("helper.py", "parts/inner.py"):
        (tmp_path / name).write_text("VALUE = 1\n")
    ask = (
        "from streamer.inference.models.custom import _import\n"
        "kind = _import('mine', 'Model')\n"
        "import sys, helper, parts.inner\n"
        "print(sys.modules['mine'].VALUE, helper.VALUE, parts.inner.VALUE)"
    )
    environment = {name: value for name, value in _environment().items() if name != "PYTHONDONTWRITEBYTECODE"}

    def values() -> list[str]:
        command = [sys.executable, "-c", ask]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert values() == ["1", "1", "1"]
    path = tmp_path / file
    before = path.stat()
    assert list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))
    path.write_text(path.read_text().replace("VALUE = 1", "VALUE = 2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert values().count("2") == 1


@pytest.mark.parametrize("init", [True, False])
def test_another_module_of_its_package_is_another_revision(tmp_path: Path, init: bool) -> None:
    """Whether anything imports it or not."""
    write(tmp_path, "package/inner/mine.py", head="files = []")
    if init:
        for folder in ("package", "package/inner"):
            (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "package/never.py").write_text("VALUE = 1\n")
    before = card(tmp_path, "package.inner.mine:Model")
    (tmp_path / "package/never.py").write_text("VALUE = 2\n")
    assert before.shared and card(tmp_path, "package.inner.mine:Model").revision != before.revision


def test_files_swapped_are_another_revision(tmp_path: Path) -> None:
    """What is in which file counts, not only what is in all of them."""
    write(tmp_path, "mine.py", head="files = ['a', 'b']")
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    before = card(tmp_path).revision
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").write_text("1")
    assert card(tmp_path).revision != before


def test_a_folder_of_links_is_what_they_lead_to(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: code and weights are links into a folder that is replaced as a whole."""
    (tmp_path / "mounted").mkdir()
    revisions = []
    for number in range(2):
        store = tmp_path / "mounted" / f"..{number}"
        write(store, "mine.py", head="files = ['weights.json']", load=READS)
        (store / "weights.json").write_text(f"[{number}]")
        for name in ("mine.py", "weights.json"):
            (tmp_path / "mounted" / name).unlink(missing_ok=True)
            (tmp_path / "mounted" / name).symlink_to(Path(f"..{number}") / name)
        revisions += [card(tmp_path / "mounted").revision for _ in range(2)]
    assert revisions[0] == revisions[1] != revisions[2] == revisions[3]


def test_links_are_followed_and_end(tmp_path: Path) -> None:
    """A folder of links to the weights is the weights; a link to a folder above is no endless way."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "w").write_text("1")
    write(tmp_path, "code/mine.py", head="files = ['model']")
    (tmp_path / "code" / "model").mkdir()
    (tmp_path / "code" / "model" / "there").symlink_to(tmp_path / "store")
    (tmp_path / "code" / "model" / "up").symlink_to(tmp_path / "code")
    before = card(tmp_path / "code").revision
    (tmp_path / "store" / "w").write_text("2")
    assert card(tmp_path / "code").revision != before


# --- refused ---------------------------------------------------------------------------------------------------------


class Made:
    """With files as given."""

    def __init__(self, files: Any) -> None:
        self.files = files


def identity(files: Any, began_ns: int | None = None) -> str:
    began_ns = time.time_ns() if began_ns is None else began_ns
    return identify("python:tests.x:Made", Made, Made(files), Reads(), began_ns).revision


@pytest.mark.parametrize("files", [["no/such/file"], ["*.nothing"], ["conftest.py", "gone"]])
def test_a_declared_file_that_is_not_there_is_named(files: list[str]) -> None:
    """With the class, the word in its list, and where it was looked for."""
    with pytest.raises(ModelError, match=r"python:tests\.x:Made: its files name '.*', but there is no /"):
        identity(files)


@pytest.mark.parametrize("files", ["weights.json", {"a": 1}, [1], 5])
def test_files_that_are_no_list_of_paths_are_refused(files: Any) -> None:
    """One string would be read letter by letter."""
    with pytest.raises(ModelError, match=r"python:tests\.x:Made: files must be a list of paths"):
        identity(files)


def test_a_file_that_changes_while_the_class_is_made_is_refused(tmp_path: Path) -> None:
    """Nobody knows which of the two was read; unless the class wrote it itself."""
    began_ns = time.time_ns()
    time.sleep(0.05)
    file = tmp_path / "weights"
    with Reads() as reads:
        draft = tmp_path / "draft"
        draft.write_text("new")
        draft.rename(file)
    with pytest.raises(ModelError, match=rf"{file} changed while the class was loaded: start it again") as caught:
        identity([file], began_ns)
    assert caught.value.exit_code is ExitCode.DEPENDENCY  # which those who start it again go by
    identify("python:tests.x:Made", Made, Made([file]), reads, time.time_ns() - 1)


def test_a_folder_beyond_the_bound_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights that nobody declared are looked for within bounds; past them the log says what to do."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(class_identity, "MAX_FILES", 5)
    write(tmp_path, "crowded.py")
    for number in range(7):
        (tmp_path / f"{number}.bin").touch()
    with caplog.at_level(logging.WARNING):
        CustomModel(WorkerSpec("p", "count", "python:crowded:Model"), "crowded", "Model")
    assert "python:crowded:Model" in caplog.text and "`files`" in caplog.text


@pytest.fixture(autouse=True)
def _imported() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name == "crowded":
            del sys.modules[name]


# --- what is read ----------------------------------------------------------------------------------------------------


def test_reads_are_those_of_python_without_what_is_written(tmp_path: Path) -> None:
    """By any way of opening; a file that is written, too, is state and no input."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text("x")
    with Reads() as reads:
        (tmp_path / "a").read_bytes()
        os.close(os.open(tmp_path / "b", os.O_RDONLY))
        (tmp_path / "c").write_text("y")
        (tmp_path / "c").read_text()
    (tmp_path / "d").read_text()
    assert [Path(name).name for name in reads.files if Path(name).parent == tmp_path] == ["a", "b"]


# --- our own tasks ---------------------------------------------------------------------------------------------------


def test_each_task_has_a_version_of_its_own() -> None:
    """And the libraries that compute are named with theirs."""
    assert set(TASK_VERSIONS) == set(TASKS)
    named = {of_task(task, backend) for task in TASKS for backend in ("torch", "openvino")}
    assert len(named) == 2 * len(TASKS)
    assert all("torch=" in one and "transformers=" in one and "tokenizers=" in one for one in named)
