"""Models for benchmarks, named `python:streamer.bench.models:CLASS` in the configuration."""

from __future__ import annotations

import time
from typing import Any

from streamer.bench.workload import POISON_MARK
from streamer.inference.model import Input


class Slow:
    """Sleeps `sleep_ms` (50) for each forward batch and answers `{}`: a worker that can't keep up."""

    version = "slow-1"

    def __init__(self, options: dict[str, Any]) -> None:
        self._sleep_s = float(options.get("sleep_ms", 50)) / 1000

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        time.sleep(self._sleep_s)
        return [{} for _ in inputs]


class Marked:
    """Raises for a batch that holds a poisoned text, answers `{}` otherwise."""

    version = "marked-1"

    def __init__(self, options: dict[str, Any]) -> None:
        """Has no options."""

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        if any(one.text.startswith(POISON_MARK) for one in inputs):
            raise ValueError("a text of this batch is poison")
        return [{} for _ in inputs]
