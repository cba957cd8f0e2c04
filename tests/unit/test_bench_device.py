"""The checks of a device: what one does wrong costs itself alone, and what was found is on the disk at once."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer.bench.device import answers, program
from streamer.bench.device.answers import distance
from streamer.bench.device.program import LOG, RESULTS, may_start, run_all
from streamer.bench.device.report import Line, Report, SkippedStepError, State, bad, read, sections
from streamer.bench.device.steps import FAMILIES, STEPS, Settings, Step
from streamer.cli.bench import bench
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks import families

Run = Callable[[Settings, Report], None]


def fine(_: Settings, report: Report) -> None:
    report.figure("speed", 3, "/s")
    print("PRINTED")


def raises(_: Settings, report: Report) -> None:
    raise ValueError("no such thing")


def crashes(_: Settings, report: Report) -> None:
    report.figure("before it", 1)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(_: Settings, report: Report) -> None:
    report.say("child", os.fork() or os.getpid())  # what it starts must not outlive it
    time.sleep(600)


def lacks(_: Settings, report: Report) -> None:
    raise SkippedStepError("no broker here")


def misses(_: Settings, report: Report) -> None:
    raise ModuleNotFoundError("No module named 'torch'", name="torch")


def lost(_: Settings, report: Report) -> None:
    raise ModuleNotFoundError("No module named 'streamer.gone'", name="streamer.gone")


def wrong(_: Settings, report: Report) -> None:
    report.wrong("it is 0.5 away")


def gone(process: int) -> bool:
    """It ended, whether or not somebody has asked for how."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Line]]:
    """Runs steps; returns the end of each."""
    monkeypatch.setattr(program, "_context", lambda device: multiprocessing.get_context("fork"))
    monkeypatch.setattr(program, "_POLL_S", 0.05)

    def run(*steps: Step, minutes: float = 1.0) -> dict[str, Line]:
        lines = run_all(steps, Settings("cpu", True, tmp_path), tmp_path, minutes, lambda _: None)
        assert lines == read(tmp_path / RESULTS)
        return {line.step: line for line in lines if line.ended}

    return run


def test_a_step_that_fails_costs_itself_alone(run: Callable[..., dict[str, Line]], tmp_path: Path) -> None:
    """Whichever way; what it had found before stays, and the log has what it printed."""
    kinds: list[Run] = [raises, crashes, hangs, lacks, misses, lost, wrong, fine]
    ends = run(*(Step(one.__name__, one, 1.0 if one is hangs else 30.0) for one in kinds))
    assert {name: (line.ended, line.text) for name, line in ends.items()} == {
        "raises": (State.FAILED, "ValueError: no such thing"),
        "crashes": (State.FAILED, "its process ended with -9"),
        "hangs": (State.OUT_OF_TIME, "it was ended after 1 s or at the end of all time"),
        "lacks": (State.SKIPPED, "no broker here"),
        "misses": (State.SKIPPED, "torch is not installed"),
        "lost": (State.FAILED, "ModuleNotFoundError: No module named 'streamer.gone'"),
        "wrong": (State.WRONG, "it is 0.5 away"),
        "fine": (State.DONE, ""),
    }
    lines = read(tmp_path / RESULTS)
    assert [(line.step, line.value) for line in lines if line.value is not None] == [("crashes", 1), ("fine", 3)]
    (child,) = {int(line.text) for line in lines if line.name == "child"}
    until = time.monotonic() + 10
    while not gone(child):
        assert time.monotonic() < until
        time.sleep(0.02)
    log = (tmp_path / LOG).read_text()
    assert "PRINTED" in log
    assert "raise ValueError" in log
    assert bad(lines)


def test_a_kill_of_everything_leaves_what_was_found_and_no_process(tmp_path: Path) -> None:
    """As a time limit from outside is, which no program can catch."""
    code = (
        "import multiprocessing, sys, time; from pathlib import Path\n"
        "from streamer.bench.device import program; from streamer.bench.device.steps import Settings, Step\n"
        "program._context = lambda device: multiprocessing.get_context('fork')\n"
        "def hangs(_, report): report.say('process', __import__('os').getpid()); time.sleep(600)\n"
        "there = Path(sys.argv[1])\n"
        "program.run_all([Step('hangs', hangs, 600)], Settings('cpu', True, there), there, 10, print)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.DEVNULL) as whole:
        until = time.monotonic() + 60
        while not (said := [line.text for line in read(tmp_path / RESULTS) if line.name == "process"]):
            assert time.monotonic() < until
            time.sleep(0.02)
        whole.kill()
    while not gone(int(said[0])):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert bad(read(tmp_path / RESULTS))


def test_at_the_end_of_all_time_the_rest_is_skipped_by_name(
    run: Callable[..., dict[str, Line]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that runs is ended, none is begun."""
    monkeypatch.setattr(program, "LEAST_S", 0.2)
    ends = run(Step("hangs", hangs, 600.0), Step("fine", fine, 30.0), minutes=1 / 60)
    assert (ends["hangs"].ended, ends["fine"].ended) == (State.OUT_OF_TIME, State.SKIPPED)
    assert ends["fine"].text == "no time was left"


def test_what_measures_runs_alone() -> None:
    """Steps that only compare answers run beside their like, as many as there are cores for."""
    beside, alone = Step("a", fine, 1, beside=True), Step("m", fine, 1)
    assert may_start(alone, [], 4)
    assert may_start(beside, [beside], 4)
    assert not may_start(beside, [beside, beside], 2)
    assert not may_start(alone, [beside], 4)
    assert not may_start(beside, [alone], 4)


def test_a_file_that_ends_in_the_middle_is_read(tmp_path: Path) -> None:
    """A step that began and has no end, as a kill of everything leaves it, did not end well."""
    report = Report(tmp_path / RESULTS, time.monotonic(), "passes")
    report.begin()
    report.figure("speed", 3, "/s")
    with (tmp_path / RESULTS).open("ab") as file:
        file.write(b'{"at_s": 2.0, "st')
    lines = read(tmp_path / RESULTS)
    assert [line.name for line in lines] == ["begun", "speed"]
    *tables, ends = sections(lines)
    assert [figure.name for table in tables for figure in table.figures] == ["speed"]
    assert ends.figures[0].columns == {"ended": "failed", "why": "it has no end"}
    assert bad(lines)


def test_skipped_is_no_failure(tmp_path: Path) -> None:
    """A machine may lack a broker."""
    for name, state in (("a", State.DONE), ("b", State.SKIPPED)):
        Report(tmp_path / RESULTS, time.monotonic(), name).end(state)
    assert not bad(read(tmp_path / RESULTS))


def test_answers_are_compared_place_by_place() -> None:
    """Numbers by how far they are, all else by whether it is the same."""
    one = {"label": "good", "scores": [0.5, 100.0], "start": 3}
    far, same = distance(one, {"label": "good", "scores": [0.51, 101.0], "start": 3})
    assert far == pytest.approx(0.01)
    assert same == 1
    assert distance(one, {"label": "bad", "scores": [0.5, 100.0], "start": 4}) == (0.0, 0.0)
    assert distance(one, {"label": "good"}) == (0.0, 0.0)
    assert distance([1.5], [1.5, 1.5]) == (0.0, 0.0)
    assert math.isnan(distance([1.5, 1.5, 1.5], [1.5, float("nan"), 9.5])[0])


@pytest.mark.parametrize(("off", "found"), [(0.001, 0), (0.01, 1), (float("nan"), 2), (None, 1)])
def test_a_device_that_answers_otherwise_is_wrong(
    off: float | None, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 by little, in a lower precision by what is no rounding; not a number is no answer at all, nor is a
    failure that only a lower precision has."""

    def said(model: WorkerSpec, events: Sequence[object]) -> list[object]:
        if off is None:
            return [{"score": 0.5} if model.dtype == "float32" else "infer.nan" for _ in events]
        return [{"score": 0.5 + (off if model.device != "cpu" else 0.0)} for _ in events]

    monkeypatch.setattr(families, "load", lambda spec: spec)
    monkeypatch.setattr(WorkerSpec, "card", WorkerSpec("p", "t", "m", dtype="bfloat16"), raising=False)
    monkeypatch.setattr(answers, "make", lambda kind, path: path)
    monkeypatch.setattr(answers, "how", lambda model: "")
    monkeypatch.setattr(answers, "close", lambda model: None)
    monkeypatch.setattr(answers, "answers", said)
    report = Report(tmp_path / RESULTS, time.monotonic(), "answers")
    answers.compare(Settings("cuda:0", True, tmp_path), report, "embedding")
    assert len(report.wrongs) == found


def test_every_family_of_tasks_is_compared() -> None:
    """One that comes new needs a model here."""
    from streamer.bench.device.models import KINDS

    seq2seq = {"summarization", "translation"}  # as text2text-generation
    assert {kind.task for kind in KINDS.values()} | seq2seq == set(families.TASKS)
    assert set(KINDS) == set(FAMILIES)
    assert {f"answers: {one}" for one in KINDS} <= {step.name for step in STEPS}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dry-run"], "--dry-run: it needs --out, the folder to write to"),
        (["--out", "there", "--batch-tokens", "9"], "--batch-tokens: it is for one worker"),
        (["--out", "a-file/there"], "--out: a-file/there: Not a directory"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, before anything is done."""
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    found = CliRunner().invoke(bench, ["device", *arguments])
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())
