"""A driver's metrics, read back over HTTP as the console does."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from streamer.errors import DependencyError
from streamer.telemetry import catalogue as of
from streamer.telemetry.http import start
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.scrape import Replica, read_metrics, scrape


def busy() -> Metrics:
    metrics = Metrics("p")
    metrics.only(of.INFO, "1.0", "host-0", "m", "abc", "cpu")
    metrics.set(of.WORKERS_READY, 2)
    metrics.add(of.WORKER_RESTARTS, 2, "killed")
    metrics.set(of.IN_FLIGHT_BYTES, 1_000)
    metrics.set(of.HEAD_OF_LINE, 0.5)
    metrics.set(of.HELD, True)
    for records in (8, 4):
        metrics.observe(of.FORWARD, 0.1)
        metrics.add(of.FORWARD_RECORDS, records)
    metrics.add(of.CACHE_LOOKUPS, 7, "memory", "hit")
    metrics.set(of.CACHE_AVAILABLE, False)
    metrics.set(of.LAG_SECONDS, 1.5, "in", "0")
    metrics.set(of.LAG_SECONDS, 2.5, "in", "1")
    return metrics


def test_a_driver_tells_of_itself() -> None:
    """Everything that the driver has set comes back, over /metrics and /readyz."""
    server = start("127.0.0.1:0", busy().registry, list, lambda: ["no partition is assigned"])
    try:
        url = f"http://{server.address}/metrics"
        assert scrape(url) == Replica(
            address=url,
            pipeline="p",
            slot="host-0",
            version="1.0",
            model="m",
            revision="abc",
            device="cpu",
            ready=False,
            reasons=["no partition is assigned"],
            workers_ready=2,
            worker_restarts={"killed": 2},
            held=True,
            in_flight_bytes=1_000,
            head_of_line_s=0.5,
            cache_available=False,
            cache_lookups={"memory.hit": 7},
            lag_s=2.5,
            forward_batches=2,
            forward_records=12,
            forward_s=0.2,
        )
    finally:
        server.close()


def test_what_a_driver_has_not_set_is_unknown() -> None:
    """No gauge is read as nought."""
    replica = read_metrics("a", 'streamer_transactions_total{outcome="settled",pipeline="p"} 3.0\n')
    assert replica == Replica("a", pipeline="p")


def test_who_does_not_answer_is_named() -> None:
    """A closed port and a server of other things are errors that say which."""
    with pytest.raises(DependencyError, match=r"127\.0\.0\.1:1/metrics does not answer"):
        scrape("http://127.0.0.1:1/metrics")
    server = start("127.0.0.1:0", CollectorRegistry(), list, list)
    try:
        with pytest.raises(DependencyError, match="no metrics of streamer"):
            scrape(f"http://{server.address}/metrics")
    finally:
        server.close()
