"""The benchmark of `streamer dlq list` runs to its end; the figures of so small a run say nothing."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import Kafka


def test_listing_is_compared_with_the_bare_loop(kafka: Kafka) -> None:
    """Both programs read every dead letter, the filter finds one in a hundred, and memory is watched."""
    command = [sys.executable, "-m", "streamer", "bench", "dlq", "--records", "3000", "--rounds", "1", "--json"]
    command += ["--bootstrap-servers", kafka.bootstrap_servers]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    ratio, memory = json.loads(run.stdout)["sections"][0]["figures"]
    assert ratio["value"] > 0
    assert ratio["target"] == "≥ 0.6"
    assert 10 < memory["value"] < 300
