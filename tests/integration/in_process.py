"""A whole pipeline in the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamer.app.assemble import Assembly, assemble
from streamer.app.outlet import open_outlet
from streamer.app.workers import RunOptions, start_workers
from streamer.config.load import load
from tests.acceptance.harness import PIPELINE, Lab


@contextmanager
def running(lab: Lab, environment: dict[str, str] | None = None, **fields: Any) -> Iterator[Assembly]:
    """It runs until the block ends."""
    config, options = load(lab.config(**fields), environment or {}), RunOptions()
    started = start_workers(config, PIPELINE, options)
    assembly = assemble(config, PIPELINE, options, started, open_outlet(config, PIPELINE, started))
    driving = threading.Thread(target=assembly.driver.run)
    driving.start()
    try:
        yield assembly
    finally:
        assembly.driver.stop(10)
        driving.join()
        assembly.close(1)
