"""`streamer status` and `streamer changes` beside a real run, from before it to after its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.cli import main
from streamer.errors import ExitCode
from streamer.local.ports import LOOPBACK, free_ports
from tests.acceptance.harness import Given, Lab, event, wait_for
from tests.conftest import Kafka

BAD = Given(b"k", b"no event", [])


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


class Asked:
    """The commands, in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str], *arguments: str) -> None:
        self._capfd = capfd
        self._arguments = arguments

    def status(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and the only pipeline."""
        code, out = self._ask("status", "--every-s", "0.3", *arguments)
        (found,) = json.loads(out)["pipelines"]
        assert json.loads(out)["ok"] is found["ok"] is (code == 0)
        return code, found

    def changes(self) -> list[str]:
        """What changed, in short."""
        code, out = self._ask("changes", "--since", "1h")
        assert code == 0
        found = [json.loads(line) for line in out.splitlines()]
        assert [each["time_ms"] for each in found] == sorted(each["time_ms"] for each in found)
        return [f"{each['kind']}: {each['after']}" for each in found]

    def _ask(self, command: str, *arguments: str) -> tuple[int, str]:
        self._capfd.readouterr()
        code = main([command, "--json", *arguments, *self._arguments])
        out, self.err = self._capfd.readouterr()
        return code, out


def test_before_while_and_after_it_runs(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """Records that nobody answers are never well; what the brokers and the reports know is told without a driver."""
    lab.topics(2)
    (port,) = free_ports(1)
    lab.telemetry["http"] = f"{LOOPBACK}:{port}"
    lab.produce([*(event(number) for number in range(10)), BAD])
    config = lab.config("builtin:null")
    asked = Asked(capfd, "--config", str(config))
    code, found = asked.status()
    assert (code, found["state"], found["lag_records"], found["members"]) == (ExitCode.ATTENTION, "no member", 11, 0)
    assert "streamer run --pipeline p" in found["why"][0]
    assert asked.changes() == []
    reader, run = lab.reader(), lab.start(config)
    wait_for(lambda: reader.count == 11, "all outcomes", run=run)
    code, found = asked.status()
    # One record of eleven is a dead letter, which the console says as well.
    assert (code, found["state"], found["lag_records"]) == (ExitCode.ATTENTION, "dead letters", 0), found
    assert (found["members"], found["partitions"], found["model"]) == (1, 2, "null")
    assert found["dead_letters"] == {"decode.json": 1} and found["p99_ms"] is not None and found["rate"] > 0
    silent = f"http://{LOOPBACK}:{free_ports(1)[0]}/metrics"
    asked.status("--metrics", silent)
    assert f"streamer: {silent} does not answer with metrics" in asked.err
    assert run.stop() == 0
    lab.produce([event(1)])
    code, found = asked.status()
    assert (code, found["state"], found["lag_records"]) == (ExitCode.ATTENTION, "no member", 1), found
    assert (
        "ended with exit code 0: stopped by SIGTERM" in found["why"][0] and found["last_dead_letter"] == "decode.json"
    )
    again = lab.start(config, "--until-end", "--set", "pipelines.p.crash_limit=4")
    assert again.wait() == 0
    started, ended, other, *_ = told = asked.changes()
    assert started == "member: started with null@1" and ended == "member: ended with exit code 0: stopped by SIGTERM"
    assert other.startswith("configuration: ") and other.endswith("(crash_limit default → 4)"), told
    assert told[3:] == ["member: started with null@1", "member: ended with exit code 0: done"]


def test_brokers_that_are_down(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """A sentence and exit code 5, soon."""
    lab.bootstrap_servers = f"{LOOPBACK}:{free_ports(1)[0]}"
    asked = str(lab.config("builtin:null"))
    began = time.monotonic()
    assert main(["status", "--config", asked]) == ExitCode.DEPENDENCY
    assert time.monotonic() - began < 60
    assert f"Kafka at {lab.bootstrap_servers} does not answer" in capfd.readouterr().err
