"""deploy/docker/Dockerfile: what it copies, pins and starts. `docker build` itself is run by hand: no engine answers in
most places where tests run."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streamer.config.fields import TelemetryConfig
from streamer.telemetry.http import start
from tests.programs import program

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
# Continued lines are one, and comments none.
LINES = re.sub(r"^#.*\n", "", DOCKERFILE.read_text().replace("\\\n", ""), flags=re.MULTILINE).splitlines()
# A process whose parent was killed ends later: whoever it falls to must bury it. A second is enough for that.
ORPHAN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.1)
    os._exit(0)
os.wait()
seen = 0
while seen < 20:
    time.sleep(0.05)
    others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())]
    if not others:
        break
    seen += open(f"/proc/{others[0]}/stat").read().rpartition(")")[2].split()[0] == "Z"
print("a zombie" if others else "buried", flush=True)
time.sleep(60)
"""


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def test_hadolint_finds_nothing() -> None:
    tool = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([tool, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout


def test_the_engine_gets_all_that_is_copied_and_little_else() -> None:
    """.dockerignore lets through what COPY and the wheel name, and no test, history or secret."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*"
    let_through = [pattern[1:] for pattern in patterns if pattern[0] == "!"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    wanted = [*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "LICENSE", "pyproject.toml"]
    for name in {*copied, *wanted} - {"."}:
        assert (ROOT / name).exists(), f"there is no {name}"
        assert any(fnmatch(name, pattern) for pattern in let_through), f"{name} does not reach the engine"
    assert not {"tests", ".git", "docs", ".venv"} & {*let_through}


def test_one_version_and_one_filter() -> None:
    """uv, and what is left out without a GPU, are those of `make setup`; all but torch+cpu is held to its hash."""
    makefile = (ROOT / "Makefile").read_text()
    (uv,) = re.findall(r"^UV_VERSION := (\S+)", makefile, re.MULTILINE)
    assert f"ARG UV_VERSION={uv}" in LINES
    (program,) = re.findall(r"awk '(.+)' requirements-dev\.txt", makefile)
    assert f"awk '{program.replace('$$', '$')}' requirements-cpu.txt" in DOCKERFILE.read_text()
    installs = [part for line in LINES for part in line.split("&&") if "uv pip install" in part and "-r " in part]
    assert len(installs) == 3 and all("--require-hashes" in part and "--no-deps" in part for part in installs)
    (found,) = re.findall(r"sed -n '(s/\^torch.+/p)' requirements-cpu", DOCKERFILE.read_text())
    pinned = subprocess.run(["sed", "-n", found, ROOT / "requirements-cpu.txt"], capture_output=True, text=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", pinned.stdout)


def test_nobody_is_root_and_health_is_asked_where_it_is_served() -> None:
    """Each image that is built has a user by number: Kubernetes can't tell of a name that it is not root."""
    targets = DOCKERFILE.read_text().split("\nFROM ")[1:]
    for name in ("ops", "cpu", "cuda"):
        (target,) = [text for text in targets if re.match(rf"\S+ AS {name}\n", text)]
        assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", target, re.MULTILINE), name
    assert f"http://{TelemetryConfig().http}/readyz" in DOCKERFILE.read_text()


@pytest.mark.parametrize("reasons", [[], ["no worker is ready"]], ids=["ready", "not ready"])
def test_the_engine_is_told_whether_it_serves(reasons: list[str]) -> None:
    """The image's question after its health, put to the pages of a driver."""
    (command,) = (json.loads(line.partition(" CMD ")[2]) for line in instructions("HEALTHCHECK"))
    server = start("127.0.0.1:0", CollectorRegistry(), list, lambda: reasons)
    try:
        words = [word.replace(TelemetryConfig().http, server.address) for word in command[1:]]
        ran = subprocess.run([sys.executable, *words], capture_output=True, timeout=60)
    finally:
        server.close()
    assert command[0] == "python" and (ran.returncode == 0) == (not reasons), ran.stderr


@pytest.fixture
def first_process() -> Callable[[list[str]], subprocess.Popen[str]]:
    """Starts a command as the first process of a PID namespace, as an engine does."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace may be made here")
    return lambda command: subprocess.Popen([*apart, *command], stdout=subprocess.PIPE, text=True)


def stopped(process: subprocess.Popen[str]) -> int:
    """The exit code after SIGTERM to the first process, which is the only child of `unshare`."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    subprocess.run(["kill", f"-{signal.SIGTERM.value}", *children], check=True)
    return process.wait(60)


@pytest.mark.parametrize("by_init", [True, False])
def test_orphans_are_buried(first_process: Callable[[list[str]], subprocess.Popen[str]], by_init: bool) -> None:
    """A fork server that is killed leaves its workers to the first process. The one that the image starts buries them,
    and hands SIGTERM on; streamer itself, or any program of the kind, would keep them as zombies."""
    (entry,) = map(json.loads, instructions("ENTRYPOINT"))
    assert entry[1:] == ["--", "streamer"]
    init = [program(entry[0], "tini"), "--"] if by_init else []
    with first_process([*init, sys.executable, "-c", ORPHAN]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == ("buried\n" if by_init else "a zombie\n")
        assert stopped(process) == 3


def test_sigterm_ends_a_first_process_that_has_nothing_to_finish(
    first_process: Callable[[list[str]], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Where a manifest overrides the entry point, too: the kernel drops a signal that the first process has no handler
    for."""
    code = (
        "import sys, streamer.cli\n"
        "def wait(): import time; print('ready', flush=True); time.sleep(60)\n"
        "streamer.cli.main = wait\n"
        "from streamer.__main__ import main\nsys.exit(main())"
    )
    with first_process([sys.executable, "-c", code]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert stopped(process) == 128 + signal.SIGTERM
