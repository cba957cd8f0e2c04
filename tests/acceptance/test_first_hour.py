"""The first hour of three people: from an empty folder, with nothing of streamer but the wheel.

The wheel is installed into a virtual environment of its own; what streamer depends on comes from the one of the tests.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest
from confluent_kafka.admin import AdminClient

from tests.acceptance.harness import ROOT, build_wheel, wait_for
from tests.conftest import Kafka, Redis

ROWS = 20_000
KILLS = 5
DEADLINE_S = 180.0  # of one command, on a loaded machine

pytestmark = pytest.mark.slow

Shell = Callable[[str], str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a virtual environment in which the wheel is installed."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=DEADLINE_S)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, timeout=DEADLINE_S, env=_environment())
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


@pytest.fixture
def shell(programs: Path, tmp_path: Path) -> Shell:
    """Runs a command line in an empty folder; returns what it wrote to standard output. It has to end with 0."""
    environment = _environment() | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "STREAMER_TELEMETRY__HTTP": "127.0.0.1:0",  # whoever else tries something here may have the usual port
    }

    def run(line: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, f"{line}\nended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout

    return run


@pytest.fixture
def no_topics(kafka: Kafka) -> Iterator[Callable[..., None]]:
    """Deletes topics now, and at the end: the README's names may be there from an earlier run."""
    admin, named = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}), list[str]()

    def delete() -> None:
        there = [name for name in named if name in admin.list_topics(timeout=30).topics]
        for deleted in (admin.delete_topics(there) if there else {}).values():
            deleted.result()

    def also(*names: str) -> None:
        named.extend(names)
        delete()
        wait_for(lambda: not set(named) & set(admin.list_topics(timeout=30).topics), "the topics' ends")

    yield also
    delete()


def _environment() -> dict[str, str]:
    """This process' own, without what would lead to this tree."""
    ours = ("PYTHON", "STREAMER_", "VIRTUAL_ENV", "MYPYPATH", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def test_the_wheel_has_all_that_the_tree_has(wheel: Path, shell: Shell) -> None:
    """Each file of the package, what lies elsewhere in the tree, and no import that leads back to the tree."""
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "streamer").rglob("*") if path.is_file()}
    assert {name for name in files if "__pycache__" not in name} - names == set()
    assert {"streamer/local/files/docker-compose.yml", "streamer/local/files/deploy/kafka/pom.xml"} <= names
    beside = {path.relative_to(ROOT) for name in ("deploy", "docs", "schemas") for path in (ROOT / name).rglob("*.*")}
    shared = {name.partition("/data/share/streamer/")[2] for name in names}
    assert {path.as_posix() for path in beside if (ROOT / path).is_file()} - shared == set()
    where = shell("python -c 'import streamer; print(streamer.__file__)'; command -v streamer")
    found, program = map(Path, where.split())
    assert found.is_relative_to(program.parents[1])
    assert not found.is_relative_to(ROOT)


def test_bash_completes_names_of_the_configuration(shell: Shell, tmp_path: Path) -> None:
    """With the script that `streamer completion` prints, as a press of the tab key asks for it."""
    (tmp_path / "streamer.toml").write_text(
        '[pipelines.mood]\ntask = "text-classification"\nmodel = "builtin:null"\ninput = "reviews"\noutput = "moods"\n'
    )
    for line, expected in (
        ("streamer comp", "completion"),
        ("streamer run --pipeline ", "mood"),
        ("streamer tail re", "reviews"),
    ):
        words = " ".join(f"'{word}'" for word in line.split(" "))
        asked = f"COMP_WORDS=({words}); COMP_CWORD={line.count(' ')}; _streamer_completion streamer"
        assert shell(f'eval "$(streamer completion bash)"; {asked}; echo "${{COMPREPLY[*]}}"').split() == [expected]


def test_five_minutes_word_for_word(
    kafka: Kafka, redis: Redis, no_topics: Callable[..., None], shell: Shell, tmp_path: Path
) -> None:
    """README's first configuration and commands, as they stand there, but with the brokers of the tests."""
    (section,) = re.findall(r"^## Five minutes\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    toml, lines, expected = re.findall(r"^```(?:toml|sh|text)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    commands = lines.splitlines()
    for given, ours in (("localhost:9092", kafka.bootstrap_servers), ("redis://localhost:6379/0", redis.url)):
        assert toml.count(given) == 1
        toml = toml.replace(given, ours)
    assert [line for line in commands if line.startswith("streamer local ")] == [commands[0], commands[-1]]
    no_topics("reviews", "reviews.sentiment", "reviews.sentiment.dlq")
    name, contents = toml.split("\n", 1)
    (tmp_path / name.removeprefix("# ")).write_text(contents)
    *_, said = [shell(line) for line in commands[1:-1]]
    # Numbers differ: how long it took, the partition, and the last digits of a score by the processor.
    said = said.replace("  cached", "")  # by an earlier run of this test, on a Redis that was given
    assert re.sub(r"[\d.]+", "N", said) == re.sub(r"[\d.]+", "N", expected)


def test_own_model_directory_to_results_in_ten_commands(
    kafka: Kafka, no_topics: Callable[..., None], shell: Shell, tmp_path: Path
) -> None:
    """A directory with a model, a topic, and what the model says of it, with no file written by hand."""
    shutil.copytree(ROOT / "streamer" / "demo" / "models" / "sentiment-micro", tmp_path / "my-model")
    given, wanted = (f"first-hour-{uuid.uuid4().hex[:8]}.{kind}" for kind in ("reviews", "moods"))
    no_topics(given, wanted, f"{wanted}.dlq")
    commands = [
        "streamer model inspect my-model",
        f"streamer init --model my-model --input {given} --output {wanted}"
        f" --bootstrap-servers {kafka.bootstrap_servers} -o streamer.toml",
        "streamer config check",
        "streamer topics create --input-partitions 3",
        f"""echo '{{"id": "1", "text": "What a fine day"}}' | streamer produce {given}""",
        "streamer run --until-end",
        f"streamer tail {wanted} --from earliest --until-end --json",
    ]
    assert len(commands) <= 10
    inspected, *_, results = [shell(command) for command in commands]
    assert "text-classification" in inspected
    (result,) = [json.loads(line)["value"] for line in results.splitlines()]
    assert result["id"] == "1"
    assert result["output"]["label"] == "positive"


SHOUT = """\
class Shout:
    def __init__(self, options):
        self.mark = options.get("mark", "!")

    def predict(self, inputs):
        return [{"shout": one.text.upper() + self.mark} for one in inputs]
"""

TEST_SHOUT = """\
from streamer.testing import run_pipeline


def test_shout():
    outcomes = run_pipeline("python:shout:Shout", ["hello", {"id": "2", "text": "fine"}, {"id": "3", "text": ""}])
    assert [result.output for result in outcomes.results] == [{"shout": "HELLO!"}, {"shout": "FINE!"}]
    assert [letter.code for letter in outcomes.dead_letters] == ["validate.empty_text"]
"""


def test_own_class_is_tested_in_ten_lines(shell: Shell, tmp_path: Path) -> None:
    """pytest runs it without a broker; the test fails when the model answers otherwise."""
    (tmp_path / "shout.py").write_text(SHOUT)
    assert len(TEST_SHOUT.splitlines()) <= 10
    (tmp_path / "test_shout.py").write_text(TEST_SHOUT)
    assert "1 passed" in shell("python -m pytest -q -p no:cacheprovider test_shout.py")
    (tmp_path / "shout.py").write_text(SHOUT.replace("upper", "lower"))
    assert "1 failed" in shell("python -m pytest -q -p no:cacheprovider test_shout.py || test $? = 1")


ECHO = """\
import time


class Echo:
    def __init__(self, options):
        pass

    def predict(self, inputs):
        time.sleep(0.0001 * len(inputs))
        return [{"echo": one.text} for one in inputs]
"""


def test_own_files_survive_five_kills(programs: Path, shell: Shell, tmp_path: Path) -> None:
    """Each of 20,000 rows of a Parquet file is answered once, in order, whenever the job was killed."""
    table = [{"id": f"row-{n}", "body": f"text {n}"} for n in range(ROWS)]
    parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "in.parquet")
    (tmp_path / "echo.py").write_text(ECHO)
    job = (
        "exec streamer infer in.parquet -o out.parquet --task text-classification --model python:echo:Echo"
        " --text-field body --id-field id"
    )
    environment = _environment() | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    out, partial = tmp_path / "out.parquet", tmp_path / "out.parquet.partial"
    log, rng, kills = tmp_path / "log", random.Random(18), 0
    while kills < KILLS:
        before = partial.stat().st_size if partial.exists() else 0
        with log.open("wb") as said:
            process = subprocess.Popen(["bash", "-c", job], cwd=tmp_path, env=environment, stderr=said)

        def moved(before: int = before, process: subprocess.Popen[bytes] = process) -> bool:
            return process.poll() is not None or (partial.exists() and partial.stat().st_size > before)

        wait_for(moved, f"a partial output beyond {before} bytes", DEADLINE_S)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"it ended by itself: {log.read_text()}"
        kills += 1
    shell(job)
    found = parquet.read_table(out, columns=["id", "output.echo"]).to_pylist()
    assert found == [{"id": f"row-{n}", "output.echo": f"text {n}"} for n in range(ROWS)]
    assert not list(tmp_path.glob("*.partial*"))
