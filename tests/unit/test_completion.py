"""What a shell is told that it may complete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from streamer.cli import COMMANDS, COMPLETING, cli, main
from streamer.errors import ExitCode

CONFIGURATION = """
[pipelines.mood]
task = "text-classification"
model = "builtin:null"
input = ["reviews", "letters"]
output = "moods"

[pipelines.vectors]
task = "embedding"
model = "builtin:null"
input = "reviews"
output = "reviews.vectors"
"""


@pytest.fixture(autouse=True)
def _in_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streamer.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(COMPLETING, "bash_complete")


def completed(line: str) -> list[str]:
    """What the last word of the line, which may be empty, can become."""
    _, *words, incomplete = line.split(" ")
    return [item.value for item in ShellComplete(cli, {}, "streamer", COMPLETING).get_completions(words, incomplete)]


def test_commands_are_completed_without_importing_them() -> None:
    """All of them, with what they do."""
    assert completed("streamer ") == sorted(COMMANDS)
    assert completed("streamer do") == ["doctor"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("streamer run --pipeline ", ["mood", "vectors"]),
        ("streamer run --pipeline mood --pipeline ", ["vectors"]),
        ("streamer infer --pipeline v", ["vectors"]),
        ("streamer topics check --pipeline m", ["mood"]),
        ("streamer tail mo", ["moods", "moods.dlq"]),
        ("streamer produce r", ["reviews", "reviews.vectors", "reviews.vectors.dlq"]),
        ("streamer dlq list ", ["moods.dlq", "reviews.vectors.dlq"]),
        ("streamer dlq bury --pipeline m", ["mood"]),
        ("streamer infer --task text-c", ["text-classification"]),
        ("streamer infer --format t", ["text"]),
        ("streamer run --pipeline q", []),
    ],
)
def test_names_come_from_the_configuration(line: str, expected: list[str]) -> None:
    """Of pipelines and topics; of dead-letter topics where only those make sense."""
    assert completed(line) == expected


def test_hidden_options_are_not_completed() -> None:
    """What `run` tells its children is nobody else's business."""
    assert completed("streamer run --si") == []
    assert completed("streamer run --su") == []


def test_the_file_that_is_named_counts(tmp_path: Path) -> None:
    """--config before the word; a file that can't be read completes nothing, and says nothing."""
    (tmp_path / "other.toml").write_text(CONFIGURATION.replace("mood", "temper"))
    assert completed("streamer run -c other.toml --pipeline t") == ["temper"]
    (tmp_path / "other.toml").write_text("[pipelines")
    assert completed("streamer run -c other.toml --pipeline ") == []


def test_it_is_quick() -> None:
    """No torch, no Kafka client, no web server is imported for a press of the tab key."""
    code = (
        "import sys; from click.shell_completion import ShellComplete; from streamer.cli import cli;"
        "complete = ShellComplete(cli, {}, 'streamer', 'x').get_completions;"
        "[complete(*asked) for asked in (([], ''), (['run', '--pipeline'], ''), (['infer', '--task'], ''))];"
        "print([name for name in ('confluent_kafka', 'torch', 'transformers', 'starlette') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(
    shell: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Named, or found in $SHELL."""
    monkeypatch.delenv(COMPLETING)
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert main(["completion", shell]) == ExitCode.DONE
    script = capfd.readouterr().out
    assert f"{COMPLETING}={shell}_complete" in script
    assert main(["completion"]) == ExitCode.DONE
    assert capfd.readouterr().out == script


def test_a_shell_that_is_not_known_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names those that are."""
    monkeypatch.delenv(COMPLETING)
    monkeypatch.setenv("SHELL", f"{os.sep}bin{os.sep}tcsh")
    assert main(["completion"]) == ExitCode.USAGE
    assert "bash, fish, zsh" in capsys.readouterr().err
