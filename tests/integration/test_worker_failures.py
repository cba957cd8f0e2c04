"""Workers whose model raises, dies, hangs or lies. The models are Python classes: these workers start in no time."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamer.core.pipeline.protocol import ForwardDone, ForwardStarted, Input, Work, WorkerLost, WorkerReady
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ExitCode, FailureClass
from streamer.inference.channel import Channel, Compute, Done, Encoding, FromWorker, Ready, Start, Started, Stop
from streamer.inference.parent.launch import Launched, Spawner
from streamer.inference.spec import WorkerSpec
from tests.workers import Workers

DEATH_S = 2.0


def marked(**options: object) -> WorkerSpec:
    """A worker over `tests.models.Marked`."""
    return WorkerSpec("test", "any", "python:tests.models:Marked", options=options)


@pytest.fixture(scope="module")
def shared() -> Iterator[Workers]:
    """One worker for what does not end it."""
    with Workers(marked()) as workers:
        yield workers


def send(workers: Workers, texts: list[str], *, alone: bool = False, first: int = 0) -> None:
    """Number the texts from `first` and send them to worker 0."""
    workers.pool.send(0, Work(list(range(first, first + len(texts))), texts, alone=alone))


def lost(workers: Workers) -> WorkerLost:
    """The worker's end; what was posted before is in `seen`."""
    return workers.wait_for(WorkerLost)


def last_announced(workers: Workers) -> list[int]:
    """The suspects."""
    return workers.announced()[-1]


def gone(pid: int) -> bool:
    """True when no process runs under this id; a zombie that nobody reaps has ended too."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_gone(pid: int, within_s: float) -> bool:
    """True when the process ends in time."""
    deadline = time.monotonic() + within_s
    while not gone(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.promise(5)
def test_a_poison_costs_its_neighbours_nothing(shared: Workers) -> None:
    """63 answers, one failure, and at most 2·log2(64) extra passes."""
    before = len(shared.announced())
    outcomes = shared.run([f"text {n}" if n != 40 else "POISON" for n in range(64)])
    failures = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, DataFailure)]
    assert failures == [40]
    assert len(shared.announced()) - before - 1 <= 2 * math.log2(64)


def test_a_failure_says_where_and_not_what(shared: Workers) -> None:
    """The exception's class and place; the model's message quoted the text and is dropped."""
    outcome = shared.run(["POISON secret", "fine"])[0]
    assert isinstance(outcome, DataFailure)
    assert outcome.code is Code.INFER_EXCEPTION
    assert outcome.exception == "ValueError"
    assert "secret" not in outcome.message
    assert "models.py" in outcome.message


def test_a_model_that_leaves_fails_for_that_text(shared: Workers) -> None:
    """SystemExit does not end the worker."""
    outcomes = shared.run(["EXIT", "fine"])
    assert isinstance(outcomes[0], DataFailure)
    assert isinstance(outcomes[1], Answer)


@pytest.mark.case(31)
def test_nan_fails_alone(shared: Workers) -> None:
    """The probe is finite, so the text is at fault."""
    outcomes = shared.run(["fine", "NAN", "fine"])
    assert isinstance(outcomes[1], DataFailure)
    assert outcomes[1].code is Code.INFER_NAN
    assert isinstance(outcomes[0], Answer)
    assert isinstance(outcomes[2], Answer)


def test_suspects_run_one_by_one(shared: Workers) -> None:
    """Each is announced by itself."""
    before = len(shared.announced())
    outcomes = shared.run(["fine", "POISON", "fine"], alone=True)
    assert [isinstance(outcome, Answer) for outcome in outcomes] == [True, False, True]
    assert shared.announced()[before:] == [[0], [1], [2]]


def test_work_is_answered_while_more_arrives(shared: Workers) -> None:
    """Many small works at once all end, each number once."""
    for first in range(0, 3000, 7):
        send(shared, ["fine"] * 7, first=first)
    numbers: list[int] = []
    while len(numbers) < 3003:
        numbers += shared.wait_for(ForwardDone).numbers
    assert sorted(numbers) == list(range(3003))


@pytest.mark.case(27)
@pytest.mark.parametrize(("text", "number"), [("KILL", signal.SIGKILL), ("SEGV", signal.SIGSEGV)])
def test_a_killed_worker_leaves_its_suspects(text: str, number: signal.Signals) -> None:
    """The death's signal is told, and what ran then was announced."""
    with Workers(marked()) as workers:
        workers.run(["fine"])
        send(workers, ["fine", text], first=1)
        end = lost(workers)
        assert end.signal == number
        assert not end.hung
        assert end.failure is None
        assert sorted(last_announced(workers)) == [1, 2]
        assert workers.pool.pids == {}


@pytest.mark.case(30)
def test_a_hung_worker_is_killed_and_starts_again() -> None:
    """The kill is told as such; the number serves again."""
    with Workers(marked()) as workers:
        send(workers, ["HANG"], first=5)
        workers.wait_for(ForwardStarted)
        pid = workers.pool.pids[0]
        workers.pool.kill(0)
        end = lost(workers)
        assert end.hung
        assert "lease_s" in end.message  # and not that it died of a signal, which points to its memory
        assert end.signal == signal.SIGKILL
        assert last_announced(workers) == [5]
        assert gone(pid)
        workers.pool.start(0)
        assert isinstance(workers.run(["fine"])[0], Answer)


@pytest.mark.case(29)
@pytest.mark.parametrize("text", ["OOM", "BROKEN"])
def test_a_failing_device_takes_no_text_with_it(text: str) -> None:
    """The worker ends with its own word: device, and names the suspect. Only a few fresh workers can tell whose fault
    it was."""
    with Workers(marked()) as workers:
        send(workers, ["fine", text])
        end = lost(workers)
        assert end.failure is FailureClass.DEVICE
        assert 1 in end.suspects
        assert not any(
            isinstance(outcome, DataFailure)
            for message in workers.seen
            if isinstance(message, ForwardDone)
            for outcome in message.outcomes
        )


@pytest.mark.case(28)
def test_out_of_memory_is_split_until_it_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All get answers, in batches that fit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what it finds out is not for the others
    with Workers(marked(memory=5)) as workers:
        assert all(isinstance(outcome, Answer) for outcome in workers.run(["fine"] * 40))
        before = len(workers.announced())
        workers.run(["fine"] * 40)
        assert max(map(len, workers.announced()[before:])) <= 5


@pytest.mark.case(71)
def test_a_model_that_fails_for_all_but_its_probe_is_left_to_the_breaker() -> None:
    """The worker can't tell it from a template that the model does not take."""
    with Workers(marked(fail_all=True)) as workers:
        outcomes = workers.run(["fine"] * 64)
        assert all(isinstance(outcome, DataFailure) for outcome in outcomes)


@pytest.mark.case(72)
def test_a_worker_is_missed_though_its_model_has_a_process_of_its_own() -> None:
    """Which has inherited what it could, and ends with the worker. Neither a thread of the model's that fails nor what
    it prints is anybody else's."""
    with Workers(WorkerSpec("test", "any", "python:tests.models:Forking")) as workers:
        (answer,) = workers.run(["fine"])
        assert isinstance(answer, Answer)
        helper = json.loads(answer.output)["helper"]
        assert not gone(helper)
        os.kill(workers.pool.pids[0], signal.SIGKILL)
        assert lost(workers).signal == signal.SIGKILL
        assert wait_gone(helper, DEATH_S)


@pytest.mark.case(72)
@pytest.mark.parametrize("word", ["STOP", "DRIVER"])
def test_what_a_model_started_ends_with_its_worker(word: str) -> None:
    """Whether the worker is told to end, or its driver is gone."""
    ours, process = begin(WorkerSpec("test", "any", "python:tests.models:Forking"))
    channel: Channel[FromWorker] = Channel(ours, FromWorker)
    try:
        channel.send(Compute([1], ["fine"]))
        while not isinstance(message := channel.receive(), Done):
            assert message is not None
        helper = json.loads(message.outputs[0] or b"")["helper"]
        if word == "STOP":
            channel.send(Stop())
        else:
            channel.end()
        process.wait()
        assert wait_gone(helper, DEATH_S)
    finally:
        process.kill()
        process.wait()
        channel.close()


def begin(spec: WorkerSpec) -> tuple[socket.socket, Launched]:
    """A worker that is ready, and our end of its socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = Spawner(spec).launch(theirs)
    channel: Channel[FromWorker] = Channel(ours, FromWorker)
    channel.send(Start(0, spec))
    while not isinstance(message := channel.receive(), Ready):
        assert message is not None
    return ours, process


def test_a_probe_that_turns_nan_is_the_device() -> None:
    """The first pass is the probe at start, all later ones give NaN, the probe's too."""
    spec = WorkerSpec("test", "any", "python:tests.models:NanAlways", options={"fine": 1})
    with Workers(spec) as workers:
        send(workers, ["fine", "fine"])
        assert lost(workers).failure is FailureClass.DEVICE


def test_a_model_whose_first_probe_is_nan_halts() -> None:
    """A fresh worker says the same of it each time: it is not started for ever."""
    spec = WorkerSpec("test", "any", "python:tests.models:NanAlways", options={"fine": 0})
    with Workers(spec, ready=False) as workers:
        end = lost(workers)
        assert (end.failure, end.exit_code) == (FailureClass.CODE, ExitCode.HALTED)
        assert "NaN or infinity for a known text" in end.message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (WorkerSpec("test", "any", "python:tests.models:Unloadable"), "on the other disk"),
        (WorkerSpec("test", "any", "python:tests.models:Missing"), "no class Missing"),
        (WorkerSpec("test", "any", "python:tests.nowhere:Missing"), "can't be imported"),
        (WorkerSpec("test", "any", "/no/such/model"), "not a directory here"),
    ],
)
def test_a_model_that_cannot_be_served_says_why(spec: WorkerSpec, words: str) -> None:
    """It never becomes ready."""
    with Workers(spec, ready=False) as workers:
        end = lost(workers)
        assert words in end.message
        assert end.failure is not None


def test_what_cannot_load_is_the_configurations_fault() -> None:
    """A restart does not help, and the exit code says so."""
    with Workers(WorkerSpec("test", "any", "/no/such/model"), ready=False) as workers:
        end = lost(workers)
        assert end.failure is FailureClass.CODE
        assert end.exit_code is ExitCode.CONFIGURATION


def test_an_operators_class_gets_pairs_params_and_options() -> None:
    """And its own cacheability and check of params count."""
    spec = WorkerSpec("test", "count", "python:tests.models:Echo", options={"add": 10})
    with Workers(spec) as workers:
        card = workers.cards[0]
        assert (card.name, card.task, card.cacheable, card.shared) == ("tests.models:Echo", "count", False, False)
        assert len(bytes.fromhex(card.revision)) == 32
        outcomes = workers.run(["ab", "ab", "ab"], ["c", None, None], [None, {"times": 3}, {"secret": 1}])
        assert outcomes[:2] == [Answer(b'{"length":13}'), Answer(b'{"length":36}')]
        assert isinstance(outcomes[2], DataFailure)
        assert outcomes[2].code is Code.VALIDATE_PARAMS


def test_params_are_refused_by_name() -> None:
    """By a class that knows none; the name is told, the value is not."""
    with Workers(marked()) as workers:
        outcome = workers.run(["fine"], None, [{"colour": "secret"}])[0]
        assert isinstance(outcome, DataFailure)
        assert outcome.code is Code.VALIDATE_PARAMS
        assert "colour" in outcome.message
        assert "secret" not in outcome.message


def test_the_null_model_answers_at_once_without_torch() -> None:
    """Any task, any text; its process has no torch in it."""
    with Workers(WorkerSpec("test", "whatever", "builtin:null")) as workers:
        assert workers.run(["a", "b"]) == [Answer(b"{}"), Answer(b"{}")]
        maps = psutil.Process(workers.pool.pids[0]).memory_maps()
        assert not any("libtorch" in entry.path for entry in maps)


def test_a_text_beyond_the_byte_limit_is_refused() -> None:
    """Counted in bytes of UTF-8."""
    with Workers(WorkerSpec("test", "any", "builtin:null", max_text_bytes=8)) as workers:
        outcomes = workers.run(["12345678", "123456789", "éééé", "ééééé"])
        assert [isinstance(outcome, Answer) for outcome in outcomes] == [True, False, True, False]
        assert isinstance(outcomes[1], DataFailure)
        assert outcomes[1].code is Code.INFER_TOO_LONG


def test_workers_are_numbered_and_separate() -> None:
    """Two processes; the death of one leaves the other's work alone."""
    with Workers(marked(), count=2) as workers:
        assert sorted(workers.pool.pids) == [0, 1]
        workers.pool.kill(0)
        assert lost(workers).worker == 0
        assert list(workers.pool.pids) == [1]
        assert isinstance(workers.run(["fine"], worker=1)[0], Answer)


@pytest.mark.case(42)
def test_a_worker_that_can_not_be_started_is_started_later(caplog: pytest.LogCaptureFixture) -> None:
    """Without a file descriptor left its loss is posted and told, as the device's; with some it starts."""
    with Workers(marked(), ready=False) as workers:
        workers.wait_for(WorkerReady)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            workers.pool.start(1)
            end = lost(workers)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (end.worker, end.failure) == (1, FailureClass.DEVICE)
        assert "Too many open files" in caplog.text
        workers.pool.start(1)
        assert workers.wait_for(WorkerReady).worker == 1


def test_closing_ends_a_hanging_worker_and_posts_nothing() -> None:
    """After the time-out it is killed."""
    workers = Workers(marked())
    send(workers, ["HANG"])
    workers.wait_for(ForwardStarted)
    pid = workers.pool.pids[0]
    workers.pool.close(0.1)
    assert gone(pid)
    assert workers.inbox.empty()


def test_a_terminals_interrupt_leaves_workers_to_their_driver() -> None:
    """SIGINT and SIGTERM reach the whole process group; the driver drains first."""
    with Workers(marked()) as workers:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(workers.pool.pids[0], number)
        assert isinstance(workers.run(["fine"])[0], Answer)


def test_a_worker_ends_when_its_socket_does() -> None:
    """In mid-forward, while the process that started it lives on."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer.inference.worker.worker", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
        )
    channel: Channel[FromWorker] = Channel(ours, FromWorker)
    channel.send(Start(0, marked()))
    assert isinstance(channel.receive(), Ready)
    channel.send(Compute([1], ["HANG"]))
    seen = [channel.receive() for _ in range(3)]
    assert seen[0] == Encoding([1])  # and the others in either order
    assert Started([1]) in seen
    ours.shutdown(socket.SHUT_RDWR)
    channel.close()
    try:
        process.wait(DEATH_S)
    finally:
        process.kill()
        process.wait()


def test_a_worker_that_is_started_early_is_the_one_that_is_asked_for_and_later_ones_are_new() -> None:
    spec = WorkerSpec("test", "any", "builtin:null")
    with Workers(spec, ready=False, early=True) as workers:
        workers.wait_for(WorkerReady)
        first = workers.pool.pids[0]
        workers.pool.start(0)
        workers.run(["a"])
        assert workers.pool.pids[0] == first
        workers.pool.kill(0)
        assert lost(workers).hung
        workers.pool.start(0)
        workers.wait_for(WorkerReady)
        assert workers.pool.pids[0] != first


_DRIVER = """
import sys, time
from streamer.core.pipeline.protocol import ForwardStarted, Work, WorkerReady
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import WorkerSpec
def post(message):
    if isinstance(message, WorkerReady):
        pool.send(0, Work([1], [sys.argv[1]]))
    if isinstance(message, ForwardStarted):
        print(pool.pids[0], flush=True)
pool = WorkerPool(WorkerSpec("test", "any", "python:tests.models:Marked"), 1, post)
pool.start(0)
time.sleep(3600)
"""


@pytest.mark.parametrize("text", ["HANG", "HANG_GIL"])
def test_a_worker_dies_with_its_driver(text: str) -> None:
    """Within 2 s of a kill -9, also when its model holds the interpreter lock."""
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER, text], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        assert not gone(pid)
        driver.kill()
        driver.wait()
        assert wait_gone(pid, DEATH_S)
    finally:
        driver.kill()
        driver.wait()
        if driver.stdout is not None:
            driver.stdout.close()


def test_inputs_are_the_pipelines_own() -> None:
    """What the pool posts is what the core handles: no type of its own crosses the seam."""
    with Workers(marked()) as workers:
        workers.run(["fine", "POISON", "NAN"])
        assert all(isinstance(message, Input) for message in workers.seen)
