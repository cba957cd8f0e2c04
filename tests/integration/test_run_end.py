"""A run that can't go on although all has begun ends as any other: closed, told, and in the reports."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from streamer.errors import ExitCode
from tests.acceptance.harness import Lab
from tests.conftest import Kafka


def test_a_port_that_is_taken(kafka: Kafka, tmp_path: Path) -> None:
    """The exit code of a wrong configuration; the life has its last line, and `changes` will know of it."""
    with Lab(kafka.bootstrap_servers, tmp_path) as lab, socket.create_server(("127.0.0.1", 0)) as taken:
        lab.telemetry["http"] = f"127.0.0.1:{taken.getsockname()[1]}"
        lab.topics(1)
        run = lab.start(lab.config())
        assert run.wait() == ExitCode.CONFIGURATION
        log = run.log
        assert "telemetry.http: can't listen on" in log
        (ended,) = [line for line in log.splitlines() if '"message":"ended"' in line]
        assert json.loads(ended)["exit_code"] == ExitCode.CONFIGURATION
        (report,) = lab.read_reports()
        assert (report["event"]["what"], report["event"]["exit_code"]) == ("ended", ExitCode.CONFIGURATION)
