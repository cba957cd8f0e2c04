"""What ends a command is a sentence where it is a known kind, and a report of a bug where it is not."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.cli.ending import told
from streamer.errors import ConfigurationError, ExitCode

RUN = (sys.executable, "-m", "streamer", "run")


def raised(path: Path) -> OSError:
    try:
        path.open("w")
    except OSError as error:
        return error
    raise AssertionError("it could be opened")


@pytest.mark.case(83)
def test_an_error_of_the_system_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What, where and the fix; a mistake that a restart repeats has another exit code than what is short just now."""
    (tmp_path / "link").symlink_to(tmp_path / "link")
    for path, fix, code in (
        (tmp_path / "none" / "x", "name another", ExitCode.CONFIGURATION),
        (tmp_path, "name a file", ExitCode.CONFIGURATION),
        (tmp_path / "link", "symbolic links", ExitCode.CONFIGURATION),
        (tmp_path / ("x" * 300), "shorter", ExitCode.CONFIGURATION),
    ):
        assert told(raised(path)) == code
        said = capsys.readouterr().err
        assert said.startswith(f"streamer: {path}: ") and fix in said and said.count("\n") == 1
    for number in (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO):
        assert told(OSError(number, os.strerror(number))) == ExitCode.DEPENDENCY
        assert os.strerror(number) in capsys.readouterr().err
    assert told(ConfigurationError("write it so")) == ExitCode.CONFIGURATION
    assert capsys.readouterr().err == "streamer: write it so\n"


def test_what_nobody_foresaw_is_called_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """With its places."""
    with caplog.at_level(logging.DEBUG):
        try:
            {}["x"]  # type: ignore[index]
        except KeyError as error:
            assert told(error) == ExitCode.BUG
    assert "bug" in caplog.text and "test_ending.py" in caplog.text


@pytest.mark.case(83)
def test_a_start_with_standard_error_closed(tmp_path: Path) -> None:
    """It goes on without a log; what is wrong is told by the exit code."""
    missing = tmp_path / "none.toml"
    command = f'exec "$@" --config={missing} 2>&-'
    assert subprocess.run(["sh", "-c", command, "sh", *RUN], timeout=60).returncode == ExitCode.CONFIGURATION
