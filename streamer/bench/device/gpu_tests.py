"""The tests that are skipped where there is no GPU, where this is a checkout that has tests."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from streamer.bench.device.report import Report, SkippedStepError
from streamer.bench.device.steps import Settings

ROOT = Path(__file__).parents[3]
FILE = Path("tests", "unit", "test_on_a_gpu.py")
_LIMIT_S = 85
# Other versions of the libraries may warn, and other plug-ins may be there.
_OPTIONS = ("-q", "-rA", "--noconftest", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=default")


def run(_: Settings, report: Report) -> None:
    """By pytest, in a process of its own."""
    if not (ROOT / FILE).is_file():
        raise SkippedStepError(f"{FILE} is not here")
    if importlib.util.find_spec("pytest") is None:
        raise SkippedStepError("pytest is not installed")
    command = [sys.executable, "-m", "pytest", *_OPTIONS, str(FILE)]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=_LIMIT_S)
    print(ended.stdout, ended.stderr)  # noqa: T201  # into the log
    last = ended.stdout.strip().rpartition("\n")[2]
    for count, name in re.findall(r"(\d+) (passed|failed|skipped|error)", last):
        report.figure(name, int(count))
    if ended.returncode:
        report.wrong(f"pytest ended with {ended.returncode}: {last}")
