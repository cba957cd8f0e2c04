"""What reaches the far end: a span behind the collector, a metric in Prometheus, an alert in Alertmanager.

All of it runs as processes, with the files of deploy/; only addresses and waits differ. `make far-end` builds what is
missing.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from streamer.local.ports import LOOPBACK, free_ports
from tests.acceptance.harness import ROOT, Given, Lab, Run, event, wait_for
from tests.integration.health_reports import App
from tests.programs import program, running

pytestmark = pytest.mark.every_way

PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
NULL = "builtin:null"
# Of the collector's own metrics.
UNREADABLE = r"^otelcol_kafka_receiver_unmarshal_failed_spans\S* 1$"
REFUSED = r"^otelcol_receiver_refused_spans\S* [1-9]"


class Backend(TraceServiceServicer):
    """Takes spans as Jaeger does, by OTLP over gRPC; `away`, it refuses all of them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.refusals = 0
        self.away = False

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        """See the protocol."""
        if self.away:
            self.refusals += 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        for resource in request.resource_spans:
            self.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return ExportTraceServiceResponse()

    def traces(self) -> set[int]:
        """The trace ids of the records' own spans, which have parents in other programs."""
        return {int.from_bytes(span.trace_id, "big") for span in list(self.spans) if span.parent_span_id}


@contextmanager
def backend() -> Iterator[tuple[Backend, str]]:
    """A backend that listens, and its address."""
    takes = Backend()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(takes, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    try:
        yield takes, f"{LOOPBACK}:{port}"
    finally:
        server.stop(None).wait()


def traced(numbers: range) -> list[Given]:
    """Events whose producers sampled them, each with its number as its trace id."""
    given = [event(number) for number in numbers]
    headers = [[("traceparent", b"00-%032x-%016x-01" % (number, number))] for number in numbers]
    return [Given(one.key, one.value, header) for one, header in zip(given, headers, strict=True)]


def test_spans_reach_what_is_behind_the_collector(lab: Lab) -> None:
    """Bytes that are no span hold up nothing. While the backend is away nothing is lost, even if the collector restarts
    meanwhile. Other programs may send theirs, too."""
    otelcol = program("otelcol", "far-end")
    lab.topics(1)
    topic = f"{lab.name}.spans"
    lab.create({topic: {}}, 1)
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers})
    producer.produce(topic, b"\xff is no span")
    producer.flush()
    run = lab.start(lab.config(NULL), "--set", f"telemetry.spans={topic}")
    lab.produce(traced(range(1, 21)))
    addresses = [f"{LOOPBACK}:{port}" for port in free_ports(4)]
    log = lab.folder / "collector.log"
    with backend() as (behind, endpoint):
        environment = {
            "KAFKA_BROKERS": f"{LOOPBACK}:1,{lab.bootstrap_servers}",
            "SPANS_TOPIC": topic,
            "TRACES_ENDPOINT": endpoint,
            **dict(zip(("OTLP_GRPC_LISTEN", "OTLP_HTTP_LISTEN", "HEALTH_LISTEN"), addresses, strict=False)),
            "METRICS_HOST": LOOPBACK,
            "METRICS_PORT": addresses[3].rpartition(":")[2],
        }
        # The group's name is in the shared file; on a shared broker each test needs its own.
        config = lab.folder / "collector.yaml"
        shared = (ROOT / "deploy/otel/collector.yaml").read_text()
        config.write_text(shared.replace("group_id: otel-collector", f"group_id: {lab.name}.collector"))
        command = otelcol, f"--config={config}"
        with running(log, *command, **environment):
            wait_for(lambda: behind.traces() >= {*range(1, 21)}, "the first spans", 60, run)
            assert behind.services == {"streamer"}
            linked = {int.from_bytes(link.trace_id, "big") for span in behind.spans for link in span.links}
            assert linked >= {*range(1, 21)}
            assert page(f"http://{addresses[2]}/") is not None, "the collector does not say that it is healthy"
            assert re.search(UNREADABLE, page(f"http://{addresses[3]}/metrics") or "", re.MULTILINE), log.read_text()
            post(f"http://{addresses[1]}/v1/traces", one_span(99))
            wait_for(lambda: 99 in behind.traces(), "another program's span", 60)
            behind.away = True
            lab.produce(traced(range(21, 41)))
            wait_for(lambda: behind.refusals >= 2, "two refusals", 60, run)
            assert re.search(REFUSED, page(f"http://{addresses[3]}/metrics") or "", re.MULTILINE)
            behind.away = False
            wait_for(lambda: behind.traces() >= {*range(21, 41)}, "the spans of the outage", 60, run)
            behind.away, behind.refusals = True, 0
            lab.produce(traced(range(41, 61)))
            wait_for(lambda: behind.refusals, "a refusal", 60, run)
        assert not behind.traces() & {*range(41, 61)}
        behind.away = False
        with running(log, *command, **environment):
            wait_for(lambda: behind.traces() >= {*range(41, 61)}, "the spans from before the restart", 60, run)
    assert run.stop() == 0, run.log


def one_span(number: int) -> bytes:
    """A request with a span of another program."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="asked", start_time_unix_nano=1)
    span.trace_id = number.to_bytes(16, "big")
    span.span_id = span.parent_span_id = number.to_bytes(8, "big")
    return bytes(request.SerializeToString())


def post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def page(url: str) -> str | None:
    """What is there; None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:  # an OSError, too, that holds its socket
        error.close()
    except OSError:
        pass
    return None


class Watch:
    """Prometheus and Alertmanager, as deploy/ sets them up."""

    def __init__(self, targets: dict[str, int], prometheus: int, alertmanager: int) -> None:
        self._targets = {**targets, "alertmanager:9093": alertmanager}
        self._prometheus, self._alertmanager = prometheus, alertmanager

    def write(self, folder: Path) -> Path:
        """Prometheus' files with other addresses, and without waits."""
        config = PROMETHEUS.read_text().replace("15s", "200ms")
        for target in re.findall(r'targets: \["(.+)"\]', config):
            config = config.replace(target, f"{LOOPBACK}:{self._targets[target]}")
        for name in yaml.safe_load(config)["rule_files"]:
            rules = PROMETHEUS.with_name(name).read_text()
            (folder / name).write_text(re.sub(r"^ +for: .*\n", "", rules, flags=re.MULTILINE))
        path = folder / "prometheus.yml"
        path.write_text(config)
        return path

    def value(self, query: str) -> float | None:
        """A metric's value, by Prometheus' API."""
        asked = urllib.parse.urlencode({"query": query})
        found = page(f"http://{LOOPBACK}:{self._prometheus}/api/v1/query?{asked}")
        series = json.loads(found)["data"]["result"] if found else []
        return float(series[0]["value"][1]) if series else None

    def alert(self, name: str) -> Any:
        """An alert that fires, as Alertmanager has it; None if there is none."""
        url = f"http://{LOOPBACK}:{self._alertmanager}/api/v2/alerts?filter=alertname%3D{name}"
        return next(iter(json.loads(wait_for(lambda: page(url), "Alertmanager", 60))), None)


def test_metrics_reach_prometheus_and_alerts_alertmanager(lab: Lab) -> None:
    """Of the driver and of the health app. Broken events are a ticket, and a driver that is killed calls somebody."""
    pytest.importorskip("faust", reason="needs the extra health")
    programs = program("prometheus"), program("alertmanager", "far-end")
    driver, health, collector, prometheus, alertmanager = free_ports(5)
    targets = {"streamer:9464": driver, "health:9470": health, "otel-collector:8888": collector}
    watch = Watch(targets, prometheus, alertmanager)
    lab.topics(1)
    lab.telemetry["http"] = f"{LOOPBACK}:{driver}"
    config = lab.config(NULL)
    topics = f'topic = "{lab.name}.health"\nfeedback = "{lab.name}.feedback"'
    with config.open("a") as file:
        file.write(f'\n[health]\n{topics}\nhttp = "{LOOPBACK}:{health}"\n')
    run = lab.start(config)
    app = App(config, health, lab.folder / "health.log")
    try:
        with (
            running(
                lab.folder / "alertmanager.log",
                *(programs[1], f"--config.file={ROOT / 'deploy/alertmanager/alertmanager.yml'}"),
                *(f"--storage.path={lab.folder / 'alerts'}", "--cluster.listen-address="),
                f"--web.listen-address={LOOPBACK}:{alertmanager}",
            ),
            running(
                lab.folder / "prometheus.log",
                *(programs[0], f"--config.file={watch.write(lab.folder)}"),
                *(f"--storage.tsdb.path={lab.folder / 'tsdb'}", f"--web.listen-address={LOOPBACK}:{prometheus}"),
            ),
        ):
            break_and_look(lab, run, watch, f"{LOOPBACK}:{driver}")
    finally:
        app.kill()


def break_and_look(lab: Lab, run: Run, watch: Watch, driver: str) -> None:
    lab.produce(event(number) for number in range(50))
    results = 'sum(streamer_records_total{job="streamer",pipeline="p",outcome="result"})'
    wait_for(lambda: watch.value(results) == 50, "the results in Prometheus", 60, run)
    caught_up = 'streamer_health_caught_up{job="streamer-health"}'
    wait_for(lambda: watch.value(caught_up) == 1, "the health app's metric", 60, run)
    assert watch.alert("StreamerDeadLetters") is None

    def broken() -> Any:
        lab.produce([*map(event, range(3)), Given(None, b"{", [])])
        time.sleep(0.2)
        return watch.alert("StreamerDeadLetters")

    ticket = wait_for(broken, "the alert about dead letters", 60, run)
    assert (ticket["labels"]["pipeline"], ticket["labels"]["severity"]) == ("p", "warning")
    assert ticket["receivers"] == [{"name": "ticket"}]
    assert "`streamer dlq causes`" in ticket["annotations"]["runbook"]

    assert watch.alert("StreamerDriverDown") is None
    run.kill()
    call = wait_for(lambda: watch.alert("StreamerDriverDown"), "the alert about the driver", 60)
    assert (call["labels"]["instance"], call["labels"]["severity"]) == (driver, "critical")
    assert call["receivers"] == [{"name": "page"}]
