"""Five things break, as in the night: the alert that fires leads to its section of deploy/RUNBOOK.md, and the commands
that stand there first name the cause. All of it runs as processes, with the files of deploy/."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from streamer.local.ports import LOOPBACK, free_ports
from tests.acceptance.harness import ROOT, Given, Lab, Run, event, wait_for
from tests.acceptance.test_far_end import Watch
from tests.integration.redis_server import RedisServer
from tests.programs import program, running
from tests.unit.test_runbook import first_commands

pytestmark = pytest.mark.every_way


class Night:
    """A pipeline with all that watches it."""

    def __init__(self, lab: Lab, redis: RedisServer, watch: Watch) -> None:
        self.lab, self.redis, self.watch = lab, redis, watch
        key = lab.folder / "cache.key"
        key.write_text("k" * 32)
        self.cache = {"url": redis.url, "key_file": str(key)}
        self.config = lab.config(cache=self.cache, options={"cacheable": True}, micro_batch_records=50)
        self.run: Run = lab.start(self.config)
        self._written = 0

    def write(self, count: int, words: str = "") -> None:
        """New events."""
        self.lab.produce(event(number, words) for number in range(self._written, self._written + count))
        self._written += count

    def look(self, name: str, *, reason: str = "", meanwhile: Callable[[], object] = lambda: None) -> str:
        """Wait for the alert, go where its link leads, and do as it says there; returns what the commands print."""

        def fires() -> Any:
            meanwhile()
            time.sleep(0.3)
            found = self.watch.alert(name)
            return found if found and found["labels"].get("reason", reason) == reason else None

        url = wait_for(fires, f"{name} {reason}", 120)["annotations"]["runbook_url"]
        assert url.startswith("http://127.0.0.1:9090/user/deploy/RUNBOOK.md#")
        commands = first_commands(url.partition("#")[2])
        assert commands
        return "\n".join(self._streamer(*words) for words in commands)

    def _streamer(self, *words: str) -> str:
        command = [sys.executable, "-m", "streamer", *words, "--config", str(self.config)]
        ran = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)
        return ran.stdout + ran.stderr


@contextmanager
def night(lab: Lab) -> Iterator[Night]:
    driver, health, collector, prometheus, alertmanager = free_ports(5)
    targets = {"streamer:9464": driver, "health:9470": health, "otel-collector:8888": collector}
    watch = Watch(targets, prometheus, alertmanager)
    lab.topics(2)
    lab.telemetry["http"] = f"{LOOPBACK}:{driver}"
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        stack.enter_context(
            running(
                lab.folder / "alertmanager.log",
                *(program("alertmanager", "far-end"), "--cluster.listen-address="),
                f"--config.file={ROOT / 'deploy/alertmanager/alertmanager.yml'}",
                f"--storage.path={lab.folder / 'alerts'}",
                f"--web.listen-address={LOOPBACK}:{alertmanager}",
            )
        )
        stack.enter_context(
            running(
                lab.folder / "prometheus.log",
                *(program("prometheus"), f"--config.file={watch.write(lab.folder)}"),
                *(f"--storage.tsdb.path={lab.folder / 'tsdb'}", f"--web.listen-address={LOOPBACK}:{prometheus}"),
            )
        )
        yield Night(lab, redis, watch)


def test_five_faults_are_found_from_their_alerts(lab: Lab) -> None:
    """Each with no other knowledge than the runbook."""
    with night(lab) as it:
        it.write(40)
        results = 'sum(streamer_records_total{outcome="result"})'
        wait_for(lambda: it.watch.value(results) == 40, "the results in Prometheus", 90, it.run)

        # A producer writes no JSON.
        broken = Given(None, b"{", [])
        assert "decode.json" in it.look("StreamerDeadLetters", meanwhile=lambda: lab.produce([broken]))

        # Redis is gone.
        it.redis.kill()
        assert "cache.unreachable" in it.look("StreamerCacheAway", meanwhile=lambda: it.write(2))

        # A producer dies and leaves a transaction open.
        properties = {"bootstrap.servers": lab.bootstrap_servers, "transactional.id": lab.name}
        producer = Producer({**properties, "transaction.timeout.ms": 300_000})
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(lab.input, b'{"text": "0"}', partition=0)
        producer.flush()
        said = it.look("StreamerPartitionsStand", reason="open_transaction")
        assert f"{lab.input}/0 is stuck" in said
        assert "kafka-transactions" in said
        producer.abort_transaction()

        # Somebody deletes the output.
        for future in lab.admin.delete_topics([lab.output]).values():
            future.result(30)
        it.write(4)
        said = it.look("StreamerPartitionsStand", reason="output_missing").replace("\n", "")
        assert f"{lab.output} is stuck" in said
        assert "streamer topics create" in said
        lab.create({lab.output: {}}, 2)

        # A new version of the model fails on all texts.
        assert it.run.stop() == 0
        lab.config(cache=it.cache, options={"fail": True})
        it.write(800)
        assert lab.start(it.config).wait(90) == 6
        assert "halted" in it.look("StreamerDriverDown")
