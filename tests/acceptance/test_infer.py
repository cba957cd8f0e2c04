"""`streamer infer`: lines in, lines out, in order, without Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from streamer.demo import model_directory
from tests.acceptance.harness import OBEDIENT, ROOT

INFER = [sys.executable, "-m", "streamer", "infer"]


def infer(lines: str, *arguments: str, model: str = OBEDIENT) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, output lines, standard error."""
    command = [*INFER, "--task", "text-classification", "--model", model, *arguments]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=ROOT, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_each_line_has_its_result_in_order() -> None:
    """One line out for one line in, carrying id and metadata."""
    lines = "".join(f'{{"id": "e{n}", "text": "{n}", "metadata": {{"n": {n}}}}}\n' for n in range(5_000))
    code, out, _ = infer(lines)
    assert code == 0
    assert [line["output"]["n"] for line in out] == list(range(5_000))
    assert [line["id"] for line in out] == [f"e{n}" for n in range(5_000)]
    assert out[7]["metadata"] == {"n": 7}


def test_a_bad_line_says_what_is_wrong_and_harms_no_other() -> None:
    """A failed line stands in its place with line number and code; the exit code says that some failed."""
    code, out, _ = infer('{"text": "1"}\n\n{"text": \n{"text": "2 RAISE"}\n{"text": "3"}\n')
    assert code == 4
    assert [line.get("output") for line in out] == [{"n": 1}, None, None, None, {"n": 3}]
    assert [line["line"] for line in out] == [1, 2, 3, 4, 5]
    assert [line["error"]["code"] for line in out[1:4]] == ["decode.empty", "decode.json", "infer.exception"]


def test_plain_texts_and_options() -> None:
    """--text takes lines as texts; --option reaches the task."""
    code, out, _ = infer("a good day\na bad day\n", "--text", "--option", "top_k=2", model=str(model_directory()))
    assert code == 0
    assert [line["output"]["label"] for line in out] == ["positive", "negative"]
    assert all(len(line["output"]["scores"]) == 2 for line in out)


def test_a_slow_line_does_not_hold_those_before_it() -> None:
    """A line is answered while the next one is still awaited."""
    command = [*INFER, "--task", "t", "--model", "builtin:null"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(b'{"id": "%d", "text": "t"}\n' % number)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == str(number)
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Exit code 3 and one message that names the model."""
    code, out, stderr = infer('{"text": "1"}\n', model=str(tmp_path / "absent"))
    assert code == 3
    assert not out
    assert "absent" in stderr


def test_what_is_missing_on_the_command_line_is_said() -> None:
    """Neither a pipeline nor task and model: exit code 2."""
    done = subprocess.run(INFER, input="", capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2
    assert "--pipeline" in done.stderr
