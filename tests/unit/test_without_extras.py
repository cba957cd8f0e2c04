"""What an installation without extras can do, and what it says where it can't. The real installations are in
acceptance/test_installed.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.errors import ExitCode
from streamer.extras import LIBRARIES, install_command

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "streamer" / "demo" / "models" / "sentiment-micro"

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {hidden!r} or name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, {root!r})
"""
"""Makes modules as absent as if they were not installed."""

# All that is neither `inference` itself, nor a model, nor measures one.
LOOK_AT_ALL = """
import contextlib, importlib, io, pkgutil, click, streamer
for module in pkgutil.walk_packages(streamer.__path__, "streamer."):
    part, _, rest = module.name.removeprefix("streamer.").partition(".")
    if part not in ("inference", "bench") and rest != "__main__" != part and module.name not in {models!r}:
        importlib.import_module(module.name)
from streamer.cli import cli, main
def look(command, path):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([*path, "--help"]) == 0 and said.getvalue().startswith("Usage: ")
    context = click.Context(command)
    children = command.list_commands(context) if isinstance(command, click.Group) else ()
    return 1 + sum(look(command.get_command(context, name), [*path, name]) for name in children)
print(look(cli, []))
"""
MODELS = ["streamer.demo.lstm"]

ATTEMPT = """
import contextlib, io, json
from streamer.cli import main
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO())) as said, contextlib.redirect_stdout(said):
        code = main(line)
        said.flush()
    print(json.dumps([code, said.buffer.getvalue().decode()]))
"""


def run(code: str, *arguments: str, hidden: list[str], folder: Path, ends: int = 0) -> str:
    """What a program says in a fresh interpreter where the modules are absent."""
    program = HIDE.format(hidden=hidden, root=str(ROOT)) + code
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == ends, ended.stderr[-3000:]
    return ended.stdout or ended.stderr


def test_nothing_but_inference_imports_the_libraries_of_models(tmp_path: Path) -> None:
    """The driver, the operators' tools and each command's --help do without."""
    said = run(LOOK_AT_ALL.format(models=MODELS), hidden=list(LIBRARIES["inference"]), folder=tmp_path)
    assert int(said) > 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with rows and a configuration, whose brokers can't even be asked."""
    (tmp_path / "streamer.toml").write_text(f"""
[kafka]
bootstrap_servers = "127.0.0.1:1"
[kafka.properties]
"security.protocol" = "none"
[pipelines.p]
task = "text-classification"
model = "{MODEL}"
backend = "openvino"
input = "in"
output = "out"
""")
    (tmp_path / "rows.jsonl").write_text('{"text": "fine", "label": "positive"}\n')
    return tmp_path


def test_a_command_names_the_extra_that_it_needs(folder: Path) -> None:
    """With the command that installs it, and exit code 3: a restart would not help."""
    needs = {
        "infer rows.jsonl --pipeline p": "inference",
        "infer rows.jsonl --pipeline p -o table.parquet": "parquet",
        "evaluate rows.jsonl --pipeline p": "inference",
        "infer rows.jsonl --task text-classification --allow-downloads --model a/b@" + 40 * "e": "inference",
        f"model inspect {MODEL}": "inference",
        "demo": "demo",
        "console": "console",
        "health run": "health",
        "scaler": "scaler",
        "bench inference": "demo",
        "bench generation": "inference",
        "bench device": "demo",
        "bench throughput": "demo",
        "bench latency --only load": "demo",
    }
    hidden = [library for libraries in LIBRARIES.values() for library in libraries]
    told = run(ATTEMPT, json.dumps([line.split() for line in needs]), hidden=hidden, folder=folder).splitlines()
    assert len(told) == len(needs)
    for (line, extra), (code, said) in zip(needs.items(), map(json.loads, told), strict=True):
        assert (code, said.strip().endswith(f"install it with {install_command(extra)}")) == (3, True), (line, said)
        assert "Traceback" not in said


def test_a_run_ends_before_it_starts_a_worker(folder: Path) -> None:
    """It does not start one again and again that can't import torch."""
    code = "from streamer.cli import main\nsys.exit(main(['run']))"
    said = run(code, hidden=list(LIBRARIES["inference"]), folder=folder, ends=ExitCode.CONFIGURATION)
    assert said.strip().endswith(f"install it with {install_command('inference')}")


def test_the_doctor_names_the_extras_that_the_pipelines_need(folder: Path) -> None:
    """Before it has reached a broker. Who only operates the pipelines here is warned."""
    hidden = [library for libraries in LIBRARIES.values() for library in libraries]
    lines = json.dumps([["doctor", "--json"], ["doctor", "--json", "--no-model"]])
    told = run(ATTEMPT, lines, hidden=hidden, folder=folder).splitlines()
    for (code, said), severity in zip(map(json.loads, told), ("error", "warning"), strict=True):
        assert code == ExitCode.CONFIGURATION  # no broker answers
        found = json.loads(said.splitlines()[-1])["findings"]
        extras = [(one["severity"], one["where"], one["fix"]) for one in found if one["code"] == "extra.missing"]
        assert extras == [(severity, "pipeline p", install_command(extra)) for extra in ("inference", "cpu")]
        assert not [one for one in found if one["code"] == "model.refused"]
