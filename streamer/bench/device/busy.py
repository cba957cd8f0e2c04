"""How busy a GPU is while something runs, as its driver says several times a second."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from streamer.bench.device.report import Report

_EVERY_MS = 100


@contextmanager
def busy(report: Report, name: str, device: str) -> Iterator[None]:
    """Write the mean share of the time in which a kernel ran; nothing where there is no `nvidia-smi`."""
    number = device.partition(":")[2] or "0"
    if device == "cpu" or not shutil.which("nvidia-smi"):
        yield
        return
    command = ["nvidia-smi", f"--id={number}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    asked = subprocess.Popen([*command, f"--loop-ms={_EVERY_MS}"], stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        asked.terminate()
        said, _ = asked.communicate()
    shares = []
    for line in said.split():
        with suppress(ValueError):
            shares.append(float(line) / 100)
    if shares:
        report.figure(f"{name}: GPU busy", statistics.mean(shares))
