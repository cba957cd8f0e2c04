"""A cluster that lacks what some managed ones do, played by a broker's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.local import Stack
from tests.acceptance.harness import Lab, event, wait_for


@pytest.mark.every_way
def test_a_cluster_without_transactions(tmp_path: Path) -> None:
    """Exactly once ends with exit code 5 and says what to write instead, and that is enough: records of up to 1 MB have
    outcomes."""
    lacking = {
        "transaction.state.log.replication.factor": 3,  # of one broker: there is no coordinator, as in some tiers
        "auto.create.topics.enable": False,
        "message.max.bytes": 1_048_576,
    }
    with Stack.start(redis=False, kafka_config=lacking) as stack, Lab(stack.bootstrap_servers, tmp_path) as lab:
        lab.topics(2, dead_letter={})
        lab.produce([event(number, "x" * 500_000) for number in range(4)])
        run = lab.start(lab.config("builtin:null"))
        assert run.wait(120) == 5, run.log
        assert "lets no transaction begin" in run.log and 'write guarantee = "at_least_once"' in run.log
        run = lab.start(lab.config("builtin:null", guarantee="at_least_once"))
        reader = lab.reader()
        wait_for(lambda: reader.places == 4, "all outcomes", run=run)
        assert run.stop() == 0, run.log
