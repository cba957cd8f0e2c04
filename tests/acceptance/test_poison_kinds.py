"""Texts that end their worker, whatever it does for them: each is convicted, and its neighbours are answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import ROOT

ENCODING = {"EXIT": "infer.worker_killed", "SEGV": "infer.worker_killed", "OOM": "infer.worker_killed"}
FORWARD = {
    "OOM": "infer.worker_killed",
    "BROKEN": "infer.worker_killed",
    "SPOIL NAN": "infer.worker_killed",
    "QUOTE": "infer.exception",
}


def infer(lines: list[dict[str, Any]], model: str, *settings: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, output lines, and what stands on standard error."""
    command = [sys.executable, "-m", "streamer", "infer", "--task", "t", "--model", f"python:tests.models:{model}"]
    for setting in ("lease_s=4", "workers=1", *settings):
        command += ["--set", f"pipelines.infer.{setting}"]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, timeout=150)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.case(68)
def test_a_text_that_ends_its_worker_while_it_is_encoded_is_convicted() -> None:
    """By leaving, by a signal, by want of memory and by not coming back."""
    codes = ENCODING | {"HANG": "infer.worker_hung"}
    does = ["fine"] * 10 + [one for word in codes for one in (word, "fine")]
    code, out, _ = infer([{"text": f"t{n}", "params": {"do": do}} for n, do in enumerate(does)], "Careful")
    assert code == 4
    assert [line["error"]["code"] if "error" in line else "fine" for line in out] == [
        codes.get(do, "fine") for do in does
    ]


@pytest.mark.case(70)
def test_a_text_that_spoils_its_worker_is_convicted_and_one_that_only_says_so_is_not() -> None:
    """A model's exceptions are classed by type and by its probe, and no failure is the device's for ever."""
    texts = ["fine"] * 10 + [one for word in FORWARD for one in (word, "fine")]
    code, out, _ = infer([{"text": text} for text in texts], "Marked")
    assert code == 4
    found = [line["error"]["code"] if "error" in line else "fine" for line in out]
    assert found == [FORWARD.get(text, "fine") for text in texts]


@pytest.mark.case(73)
def test_what_a_model_prints_is_no_answer_and_what_its_threads_raise_is_said() -> None:
    """Standard output holds answers alone; the run goes on."""
    code, out, errors = infer([{"text": "fine"}] * 3, "Forking")
    assert code == 0
    assert [line["output"]["ok"] for line in out] == [1, 1, 1]
    assert "PRINTED" in errors
    assert "a thread that the model started ended by an exception: ValueError at models.py" in errors
    assert "can't read" not in errors


@pytest.mark.case(74)
@pytest.mark.case(75)
def test_a_replacement_that_can_not_be_loaded_yet_is_tried_again(tmp_path: Path) -> None:
    """The second start finds a full disk, the third half a file, the fourth hangs: the fifth serves."""
    faults = ("options.full=[2]", "options.wrong=[3]", "options.slow=[4]", "load_s=8")
    settings = (f"options.count={tmp_path / 'starts'}", *faults)
    code, out, errors = infer([{"text": "fine"}, {"text": "SEGV"}, {"text": "fine"}], "Starts", *settings)
    assert code == 4, errors
    assert [line.get("output") for line in out] == [{"ok": 1}, None, {"ok": 1}]
    assert "can't be loaded: OSError: [Errno 28] no space left" in errors
    assert "can't be loaded: ValueError: half a file" in errors
    assert "a worker did not load within load_s (8 s) and is killed" in errors


@pytest.mark.case(75)
def test_a_model_that_never_finishes_loading_ends_the_run(tmp_path: Path) -> None:
    """With the code of a dependency, since a restart may help, and words."""
    settings = (f"options.count={tmp_path / 'starts'}", "options.slow=[1, 2, 3]", "load_s=1")
    code, out, errors = infer([{"text": "fine"}], "Starts", *settings)
    assert (code, out) == (5, [])
    assert "no worker could be started; the last one ended: it did not load within load_s (1 s)" in errors


@pytest.mark.case(76)
def test_a_model_whose_probe_is_finite_at_each_start_and_not_later_halts() -> None:
    """No text is to blame for ever, and the run ends."""
    code, out, errors = infer([{"text": f"t{number}"} for number in range(50)], "NanAlways", "options.fine=1")
    assert (code, out) == (6, []), errors
    assert "workers become ready and end before they answer anything" in errors
    assert "NaN or infinity for a known text" in errors
