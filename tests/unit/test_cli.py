"""The command line's frame: listing, lazy imports, messages and exit codes."""

from __future__ import annotations

import importlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from streamer.cli import COMMANDS, main
from streamer.cli.options import meaning
from streamer.config.load import load
from streamer.errors import ConfigurationError, ExitCode

MINIMAL = """
telemetry.http = ""
[pipelines.p]
task = "t"
model = "builtin:null"
input = "a"
output = "b"
"""


@pytest.fixture
def toml(tmp_path: Path) -> str:
    """The path of a small valid configuration."""
    path = tmp_path / "streamer.toml"
    path.write_text(MINIMAL)
    return str(path)


def test_every_listed_command_exists() -> None:
    """The static table and the modules agree."""
    for name in COMMANDS:
        assert isinstance(getattr(importlib.import_module(f"streamer.cli.{name}"), name), click.Command), name


def test_the_page_of_commands_has_them_all() -> None:
    """And every exit code."""
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    assert [name for name in COMMANDS if f"`streamer {name}" not in page] == []
    listed = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for code in row.split(",")}
    assert set(ExitCode) <= listed


def test_help_imports_no_command() -> None:
    """`streamer --help` stays quick: no Kafka client, no torch, no rich."""
    code = (
        "import sys; from streamer.cli import main; main(['--help']);"
        "print([name for name in ('confluent_kafka', 'torch', 'rich', 'streamer.cli.tail') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert all(name in ended.stdout for name in COMMANDS)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` ends well and says which."""
    assert main(["--version"]) == ExitCode.DONE
    assert capsys.readouterr().out.startswith("streamer, version ")


@pytest.mark.parametrize("arguments", [["no-such"], ["config", "no-such"], ["tail"], ["config", "check", "--no-such"]])
def test_a_wrong_command_line_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors tell themselves on standard error."""
    assert main(arguments) == ExitCode.USAGE
    assert capsys.readouterr().err


def test_a_wrong_configuration_exits_3(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A StreamerError is one message, no traceback."""
    assert main(["config", "check", "--config", toml, "--set", "pipelines.p.worker=2"]) == ExitCode.CONFIGURATION
    assert capsys.readouterr().err == 'streamer: --set pipelines.p.worker: unknown field; did you mean "workers"?\n'


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch, toml: str) -> None:
    """Ctrl-C is no bug."""
    import streamer.cli.options

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(streamer.cli.options, "load", interrupted)
    assert main(["config", "check", "--config", toml]) == ExitCode.SECOND_SIGNAL


def test_a_closed_pipe_is_no_error(toml: str) -> None:
    """`streamer … | head -1` ends without a word."""
    command = f"{sys.executable} -m streamer config show --config {toml} | true"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(("variables", "bold"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_bold_letters_are_for_terminals_that_want_them(variables: dict[str, str], bold: bool) -> None:
    """As https://no-color.org and terminfo say."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streamer", "config", "show", "--options", "fill-mask"]
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run(command, stdout=theirs, env=plain | {"TERM": "xterm"} | variables, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000)
    os.close(ours)
    assert b"top_k" in shown
    assert (b"\x1b[1m" in shown) is bold


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_bug(closed: str, toml: str) -> None:
    """`streamer … >&-`: nothing else that is opened may get the number of standard output."""
    command = f"{sys.executable} -m streamer config show --config {toml} {closed}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_name_that_is_no_topic_may_be_a_pipelines(toml: str) -> None:
    """People name a pipeline where its topics are asked for, and mistype both."""
    config = load(toml)

    def told(name: str, *fields: str) -> str:
        with pytest.raises(ConfigurationError) as raised, meaning(config, name, fields):
            raise ConfigurationError("no topic")
        return str(raised.value)

    assert told("p", "output", "dead_letter") == "no topic. p is a pipeline: its topics are b and b.dlq"
    assert told("bdlq", "output", "dead_letter") == "no topic. Did you mean b.dlq?"
    assert told("a", "input") == told("other", "input") == "no topic"


def test_config_check_says_what_it_found(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each pipeline with where it reads and writes."""
    assert main(["config", "check", "--config", toml]) == ExitCode.DONE
    assert "p: a → t → b" in capsys.readouterr().out


def test_config_check_lets_librdkafka_judge(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A property that no client knows is found without a broker."""
    arguments = ["config", "check", "--config", toml, "--set", "kafka.properties.no.such=1"]
    assert main(arguments) == ExitCode.CONFIGURATION
    assert "no.such" in capsys.readouterr().err


def test_config_show_hides_secrets(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed can be pasted into a ticket."""
    for form in ([], ["--json"]):
        secret = ["--set", "kafka.properties.sasl.password=hunter2", "--set", "cache.url=redis://:hunter2@cache"]
        assert main(["config", "show", "--config", toml, *secret, *form]) == ExitCode.DONE
        shown = capsys.readouterr().out
        assert "hunter2" not in shown
        assert "(hidden)" in shown


def test_an_unknown_pipeline_is_a_usage_error(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists the pipelines that there are."""
    assert main(["topics", "check", "--config", toml, "--pipeline", "q"]) == ExitCode.USAGE
    assert "there are: p" in capsys.readouterr().err


def test_an_empty_folder_names_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who starts anew has no configuration yet."""
    monkeypatch.chdir(tmp_path)
    assert main(["run"]) == ExitCode.USAGE
    assert "has no pipeline; `streamer init` writes one" in capsys.readouterr().err


def test_an_absent_broker_exits_5(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A dependency that is absent at start is named with its address."""
    arguments = ["topics", "check", "--config", toml, "--set", "kafka.bootstrap_servers=127.0.0.1:1"]
    assert main(arguments) == ExitCode.DEPENDENCY
    assert "Kafka at 127.0.0.1:1 does not answer" in capsys.readouterr().err
