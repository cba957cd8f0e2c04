"""`streamer.infer`: an iterator over another one, with real worker processes."""

from __future__ import annotations

import gc
import itertools
import os
import secrets
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import streamer
from streamer import DeadLetter, DeadLetterError, Result, infer
from streamer.app.iterate import READ_AHEAD
from streamer.errors import ConfigurationError, HaltedError, ModelError, UsageError
from streamer.model import Input
from streamer.testing import RawEvent
from tests.python_models import Obedient
from tests.waiting import wait_for

DEADLINE_S = 60.0

ROOT = Path(__file__).parents[2]
OBEDIENT = "python:tests.python_models:Obedient"


def numbers(outcomes: Iterator[Any]) -> list[int]:
    return [one.output["n"] for one in outcomes]


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def children() -> Callable[[], list[int]]:
    """The workers below this process that are there and were not before; the tests' brokers start processes, too."""

    def workers() -> set[int]:
        found = set()
        for one in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any("streamer.inference" in word for word in one.cmdline()):
                    found.add(one.pid)
        return found

    before = workers()
    return lambda: [pid for pid in workers() - before if lives(pid)]


def test_outcomes_come_in_order_one_for_each_event(children: Callable[[], list[int]]) -> None:
    """More events than are read ahead, from several workers, which end with the iterator."""
    count = 3 * READ_AHEAD
    assert numbers(infer(map(str, range(count)), model=OBEDIENT, workers=2)) == list(range(count))
    assert children() == []


def test_an_endless_iterable_is_read_as_it_is_needed(children: Callable[[], list[int]]) -> None:
    """No more than READ_AHEAD events before those that were taken; closing ends the workers."""
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count():
            yield str(read)

    outcomes = infer(endless(), model=OBEDIENT, workers=1)
    assert read == 0
    taken = numbers(itertools.islice(outcomes, 2 * READ_AHEAD))
    assert taken == list(range(2 * READ_AHEAD))
    wait_for(lambda: read >= 3 * READ_AHEAD - 1)
    assert read <= 3 * READ_AHEAD
    assert children()
    outcomes.close()  # type: ignore[attr-defined]
    assert children() == []


def test_a_slow_iterable_holds_no_answer_back() -> None:
    """Each answer is there before the next event is given."""
    answered = threading.Semaphore(0)

    def conversation() -> Iterator[str]:
        for number in range(3):
            yield str(number)
            assert answered.acquire(timeout=DEADLINE_S)

    seen = []
    for outcome in infer(conversation(), model=Obedient):
        seen.append(outcome.output["n"])
        answered.release()
    assert seen == [0, 1, 2]


def test_dropped_it_ends_its_workers(children: Callable[[], list[int]]) -> None:
    """Nobody has to close it."""
    outcomes = infer(map(str, itertools.count()), model=OBEDIENT, workers=1, options={"batch_ms": 50})
    next(outcomes)
    gone = weakref.ref(outcomes)
    assert children()
    del outcomes
    gc.collect()
    assert gone() is None
    assert children() == []


def test_an_exception_in_the_loop_ends_it(children: Callable[[], list[int]]) -> None:
    """Also while somebody holds its traceback, as a notebook does."""
    with pytest.raises(LookupError) as caught:
        for _ in infer(map(str, itertools.count()), model=OBEDIENT, workers=1):
            raise LookupError
    assert caught.tb is not None
    wait_for(lambda: not children())


def test_answers_are_shared_through_the_configured_redis(redis: Any, tmp_path: Path) -> None:
    """Of a configured pipeline; another time they come from there."""
    path = tmp_path / "streamer.toml"
    path.write_text(
        f'[cache]\nurl = "{redis.url}"\nkey_file = "{tmp_path}/key"\n'
        f'[pipelines.shared]\ntask = "t"\nmodel = "{OBEDIENT}"\ninput = "in"\noutput = "out"\n'
        "options = { cacheable = true }\n"
    )
    (tmp_path / "key").write_text(secrets.token_hex(32))
    (tmp_path / "key").chmod(0o600)
    assert [one.cached for one in infer(["1"], model=path)] == [False]
    # What is too late to be stored or looked up is computed.
    wait_for(lambda: next(infer(["1"], model=path, workers=1)).cached)


def test_one_that_never_began_started_nothing(children: Callable[[], list[int]]) -> None:
    """Workers start with the first answer that is asked for."""
    before = threading.active_count()
    infer(["1"], model=OBEDIENT)
    assert (children(), threading.active_count()) == ([], before)


def test_an_interrupt_leaves_nothing_running() -> None:
    """Also while a batch is under way; in a program of its own, as the interrupt is for the whole process."""
    script = f"""
import psutil, signal, threading, time, streamer
signal.signal(signal.SIGINT, signal.default_int_handler)
def workers():
    return psutil.Process().children(recursive=True)
def interrupt():
    while not workers():
        time.sleep(0.05)
    time.sleep(0.2)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
outcomes = streamer.infer(["1"], model={OBEDIENT!r}, workers=1, options={{"batch_ms": 3_600_000}})
threading.Thread(target=interrupt, daemon=True).start()
try:
    next(outcomes)
except KeyboardInterrupt:
    while workers():
        time.sleep(0.05)
    print("interrupted, and nothing runs")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.stdout, done.stderr) == ("interrupted, and nothing runs\n", "")


def test_a_program_that_ends_in_the_middle_ends() -> None:
    """With its workers, and without a word."""
    script = f"""
import os, itertools, psutil, streamer
outcomes = streamer.infer(map(str, itertools.count()), model={OBEDIENT!r}, workers=1)
next(outcomes)
print(*[one.pid for one in psutil.Process().children(recursive=True)])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    pids = [int(word) for word in done.stdout.split()]
    assert pids
    wait_for(lambda: not any(map(lives, pids)))


def test_what_fails_is_raised_or_given() -> None:
    """With the dead letter's code and message; a crash too."""
    events: list[str | bytes | dict[str, Any] | RawEvent] = [
        "1",
        {"id": "bad", "text": "2 RAISE"},
        b"{",
        "3 SEGV",
        RawEvent(None),
        "4",
    ]
    found = list(infer(events, model=OBEDIENT, on_error="yield"))
    codes = [one.code if isinstance(one, DeadLetter) else one.output["n"] for one in found]
    assert codes == [1, "infer.exception", "decode.json", "infer.worker_killed", 4]  # a tombstone has no outcome
    outcomes = infer(events, model=OBEDIENT)
    assert isinstance(next(outcomes), Result)
    with pytest.raises(DeadLetterError, match=r"event 1 \(bad\) has no answer: infer\.exception: the model") as caught:
        next(outcomes)
    assert caught.value.code == caught.value.letter.code == "infer.exception"
    assert list(outcomes) == []


def test_what_the_iterable_raises_comes_after_its_answers() -> None:
    """As of any iterator over another one."""

    def breaks() -> Iterator[Any]:
        yield "1"
        raise LookupError("no more")

    outcomes = infer(breaks(), model=Obedient)
    assert next(outcomes).output == {"n": 1}
    with pytest.raises(LookupError, match="no more"):
        next(outcomes)
    with pytest.raises(TypeError, match="event 0 is of type int"):
        list(infer([3], model=Obedient))  # type: ignore[list-item]


def test_on_another_thread_and_under_an_event_loop() -> None:
    """As in a notebook: nothing here needs the main thread."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(numbers(infer(["1", "2"], model=OBEDIENT))))
    thread.start()
    thread.join()
    assert found == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Fails(Obedient):
    """Answers nothing but its probe."""

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        if inputs[0].text != self.probe:
            raise LookupError
        return [{"n": 0} for _ in inputs]


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"model": "no/where", "task": "embedding"}, ModelError, "no/where' is not a directory"),
        ({"model": Fails, "on_error": "yield"}, HaltedError, "this looks like a bad deployment"),
    ],
)
def test_what_can_not_go_on_says_why(fields: dict[str, Any], kind: type[Exception], words: str) -> None:
    """At the first answer that is asked for."""
    outcomes = infer((str(n) for n in range(1000)), **fields)
    with pytest.raises(kind, match=words):
        list(outcomes)


@pytest.mark.parametrize(
    ("events", "fields", "kind", "words"),
    [
        ("text", {"model": OBEDIENT}, UsageError, r"infer\(\[text\], …\)"),
        (["a"], {"model": OBEDIENT, "on_error": "skip"}, UsageError, 'must be "raise" or "yield"'),
        (["a"], {"model": OBEDIENT, "worker": 2}, ConfigurationError, 'did you mean "workers"'),
        (["a"], {"model": OBEDIENT, "workers": -1}, UsageError, "it must be 0 to 256"),
        (["a"], {"model": "dir"}, UsageError, "say what the model does"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    events: Any, fields: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """Before anything is asked of the iterator."""
    with pytest.raises(kind, match=words):
        infer(events, **fields)


def test_it_costs_nothing_until_it_is_used() -> None:
    """`import streamer` imports none of its parts; an unknown name is an AttributeError."""
    script = "import sys, streamer; print(*(name for name in sys.modules if name.startswith('streamer')))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["streamer.lazy", "streamer"] or done.stdout.split() == ["streamer", "streamer.lazy"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        streamer.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert os.fspath(ROOT) in streamer.__path__[0]
