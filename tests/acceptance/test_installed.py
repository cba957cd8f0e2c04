"""The wheel in an environment of its own, with the versions of the lock and nothing else, far from this tree.

Run it with `-s` to see how long each installation takes and how large it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.errors import ExitCode
from tests.acceptance.harness import ROOT, build_wheel
from tests.conftest import Kafka

pytestmark = pytest.mark.every_way
UV = Path(sys.executable).with_name("uv")
MODEL = "package:streamer/demo/models/sentiment-micro"
INSTALL_S = 900.0
COMMAND_S = 300.0
# A driver's and the operators' tools; with numpy about half of it. Torch alone is more.
BASE_MB = 150


class Installed:
    """A virtual environment with the wheel and some of its extras."""

    def __init__(self, home: Path, wheel: Path, extras: str) -> None:
        began = time.monotonic()
        self.python = home / "bin" / "python"
        self.wheel = wheel
        uv = UV if UV.exists() else shutil.which("uv")
        if uv is None:
            pytest.skip("no uv: `make setup` installs it")
        self._uv = [str(uv), "pip", "install", "--quiet", "--python", str(self.python)]
        subprocess.run(
            [str(uv), "venv", "--quiet", "--python", sys.executable, str(home)], check=True, timeout=INSTALL_S
        )
        if extras:
            self._torch()
        named = f"streamer-inference{extras} @ {wheel.as_uri()}"
        subprocess.run([*self._uv, "-c", str(ROOT / "requirements-dev.txt"), named], check=True, timeout=INSTALL_S)
        self.mb = sum(path.lstat().st_size for path in home.rglob("*") if path.is_file()) / 1e6
        print(f"\n{extras or 'base'}: {self.mb:,.0f} MB, installed in {time.monotonic() - began:.1f} s")

    def _torch(self) -> None:
        """The CPU's build where the tests' environment has that: only pip knows where it is from."""
        if version("torch").endswith("+cpu"):
            pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, f"torch=={version('torch')}"], check=True, timeout=INSTALL_S)

    def says(self, line: str, folder: Path, *, ends: int = 0, given: str = "") -> str:
        """What a command line says on both streams in `folder`; it has to end with that code, and without a
        traceback."""
        ended = subprocess.run(
            [str(self.python.with_name("streamer")), *line.split()],
            cwd=folder,
            env=_environment(),
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
        )
        assert ended.returncode == ends, f"{line} ended with {ended.returncode}:\n{ended.stdout[-3000:]}"
        assert "Traceback" not in ended.stdout
        return ended.stdout

    def wants(self, extra: str) -> str:
        """The end of a message that names an extra."""
        return f"{self.python} -m pip install 'streamer-inference[{extra}] @ {self.wheel.as_uri()}'"


def _environment() -> dict[str, str]:
    """This process' own, without what would lead to this tree, and with ports of its own."""
    ours = ("PYTHON", "STREAMER_", "VIRTUAL_ENV", "MYPYPATH", "COVERAGE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"STREAMER_TELEMETRY__HTTP": "127.0.0.1:0"}


Install = Callable[[str], Installed]


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """Installs the wheel of this tree with extras, until the test ends."""
    homes = [tmp_path_factory.mktemp("wheel")]
    wheel = build_wheel(homes[0])

    def install(extras: str) -> Installed:
        homes.append(tmp_path_factory.mktemp("environment"))
        return Installed(homes[-1], wheel, extras)

    yield install
    for home in homes:
        shutil.rmtree(home)


@pytest.fixture
def folder(kafka: Kafka, tmp_path: Path) -> Iterator[Path]:
    """A folder with a configuration and rows; its topics are deleted."""
    name = f"installed-{uuid.uuid4().hex[:8]}"
    (tmp_path / "streamer.toml").write_text(f"""
[kafka]
bootstrap_servers = "{kafka.bootstrap_servers}"
[cache]
url = ""
[telemetry]
spans = ""
reports = ""
[pipelines.mood]
task = "text-classification"
model = "{MODEL}"
input = "{name}"
output = "{name}.moods"
""")
    (tmp_path / "rows.jsonl").write_text('{"text": "What a fine day", "label": "positive"}\n')
    yield tmp_path
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for deleted in admin.delete_topics([name, f"{name}.moods", f"{name}.moods.dlq"]).values():
        with suppress(KafkaException):  # of a test that ended before it made them
            deleted.result(COMMAND_S)


def test_without_extras_everything_works_but_models(install: Install, folder: Path) -> None:
    """The operators' tools do their work, a model of the user's own is served, and all else says what is missing."""
    base = install("")
    assert base.mb < BASE_MB
    here = [path.name for path in base.python.parents[1].glob("lib/python*/site-packages/*")]
    assert {"confluent_kafka", "streamer"} <= set(here) and not {"torch", "transformers", "tokenizers"} & set(here)
    shared = base.python.parents[1] / "share" / "streamer"
    named = "schemas/event.json", "deploy/keda/scaledobject.yaml", "docs/guide.md"
    assert [name for name in named if not (shared / name).is_file()] == []

    commands = re.findall(r"^  (\w+)  ", base.says("--help", folder), re.MULTILINE)
    assert len(commands) > 20
    for command in (*commands, "dlq list", "health run"):
        assert base.says(f"{command} --help", folder).startswith("Usage: ")
    assert version("streamer-inference") in base.says("--version", folder)
    assert "OK: 1 pipeline" in base.says("config check", folder)
    assert "created" in base.says("topics create --input-partitions 1", folder)
    assert "1 delivered" in base.says("produce " + _input(folder), folder, given='{"id": "1", "text": "fine"}\n')
    assert "1 behind" in base.says("lag", folder)
    assert "no dead letters" in base.says("dlq list", folder)
    assert "no member" in base.says("status", folder, ends=ExitCode.ATTENTION)

    refused = ExitCode.CONFIGURATION
    assert f"fix: {base.wants('inference')}" in base.says("doctor", folder, ends=refused)
    for line, extra in (
        ("run", "inference"),
        ("infer rows.jsonl --pipeline mood", "inference"),
        ("evaluate rows.jsonl --pipeline mood", "inference"),
        ("infer rows.jsonl --pipeline mood -o table.parquet", "parquet"),
        ("console", "console"),
        ("health run --set telemetry.reports=streamer.reports", "health"),
        ("demo", "demo"),
    ):
        assert base.says(line, folder, ends=refused).strip().endswith(base.wants(extra)), line

    (folder / "shout.py").write_text("""class Shout:
    def __init__(self, options):
        pass

    def predict(self, inputs):
        return [{"shout": one.text.upper()} for one in inputs]
""")
    base.says("run --until-end --set pipelines.mood.model=python:shout:Shout", folder)
    assert "FINE" in base.says(f"tail {_input(folder)}.moods --from earliest --until-end", folder)


def test_with_extras_models_run_and_so_does_the_demo(install: Install, folder: Path) -> None:
    """From files, from a topic, and all at once; `doctor` finds nothing missing."""
    full = install("[cpu,demo]")
    given = '{"id": "1", "text": "What a fine day"}\n'
    answer = json.loads(full.says("infer --pipeline mood", folder, given=given).splitlines()[-1])
    assert answer["output"]["label"] == "positive"
    full.says("topics create --input-partitions 1", folder)
    full.says("produce " + _input(folder), folder, given=given)
    full.says("run --until-end", folder)
    assert "positive" in full.says(f"tail {_input(folder)}.moods --from earliest --until-end", folder)
    assert "extra.missing" not in full.says("doctor", folder)
    told = full.says("demo --events 60 --json", folder)
    assert json.loads(told[told.index("{\n") :])["ok"]


def _input(folder: Path) -> str:
    (name,) = re.findall(r'^input = "(.*)"$', (folder / "streamer.toml").read_text(), re.MULTILINE)
    return str(name)
