"""Models for benchmarks, named `python:streamer.bench.models:CLASS` in the configuration."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from streamer.bench.harness.workload import DEADLY_MARK, POISON_MARK
from streamer.model import Input


class Slow:
    """Sleeps `sleep_ms` (50) for each forward batch and answers `{}`: a worker that can't keep up."""

    version = "slow-1"
    files: tuple[str, ...] = ()

    def __init__(self, options: dict[str, Any]) -> None:
        self._sleep_s = float(options.get("sleep_ms", 50)) / 1000

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        time.sleep(self._sleep_s)
        return [{} for _ in inputs]


class Marked:
    """Raises for a batch that holds a poisoned text, answers `{}` otherwise."""

    version = "marked-1"
    files: tuple[str, ...] = ()

    def __init__(self, options: dict[str, Any]) -> None:
        """Has no options."""

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        if any(one.text.startswith(POISON_MARK) for one in inputs):
            raise ValueError("a text of this batch is poison")
        return [{} for _ in inputs]


class Fragile:
    """Answers `{"n": N}` to a text that is the number N, after `batch_ms` (2); a deadly text is its end by SIGSEGV."""

    version = "fragile-1"
    files: tuple[str, ...] = ()
    probe = "0"

    def __init__(self, options: dict[str, Any]) -> None:
        self._sleep_s = float(options.get("batch_ms", 2)) / 1000

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        time.sleep(self._sleep_s)
        if any(one.text.startswith(DEADLY_MARK) for one in inputs):
            os.kill(os.getpid(), signal.SIGSEGV)
        return [{"n": int(one.text)} for one in inputs]
