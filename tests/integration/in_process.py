"""A whole pipeline in the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamer.app.assembly import Assembly
from streamer.app.start import RunOptions, start
from streamer.config.load import load
from tests.acceptance.harness import PIPELINE, Lab


@contextmanager
def running(lab: Lab, environment: dict[str, str] | None = None, **fields: Any) -> Iterator[Assembly]:
    """It runs until the block ends."""
    assembly = start(load(lab.config(**fields), environment or {}), PIPELINE, RunOptions())
    driving = threading.Thread(target=assembly.driver.run)
    driving.start()
    try:
        yield assembly
    finally:
        assembly.driver.stop(10)
        driving.join()
        assembly.close(1)
