"""The `OTEL_*` variables: what each says, what is refused by its name, and what is ignored with a warning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer.cli.config import config
from streamer.config.fields import TelemetryConfig
from streamer.config.otel import Otel, OtelReading, read, shown
from streamer.core.record import MicroBatch, Segment, TraceParent
from streamer.core.trace_sampler import TraceSampler
from streamer.core.traceparent import mark_spans
from tests.acceptance.certificates import make_certificates

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SECRET = "canary-9c1e"


def reading(variables: dict[str, str], otlp_endpoint: str = "") -> OtelReading:
    return read(variables, TelemetryConfig(otlp_endpoint=otlp_endpoint))


def otel(variables: dict[str, str], otlp_endpoint: str = "") -> Otel:
    found = reading(variables, otlp_endpoint)
    assert not found.problems
    assert not found.warnings
    return found.otel


def test_without_variables_spans_stay_on_the_topic() -> None:
    """Nothing is sent anywhere by itself; an empty variable is an unset one."""
    assert otel({}) == otel({ENDPOINT: "", "OTEL_TRACES_SAMPLER": " "}) == Otel()


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({ENDPOINT: "http://c:4318"}, "http://c:4318/v1/traces"),
        ({ENDPOINT: "https://c/base/"}, "https://c/base/v1/traces"),
        ({ENDPOINT: "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:1/mine"}, "http://b:1/mine"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        ({"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://c"}, ""),
        ({"OTEL_SDK_DISABLED": "True", ENDPOINT: "http://c"}, ""),
    ],
)
def test_where_spans_go(variables: dict[str, str], endpoint: str) -> None:
    """The general endpoint is a base, that for traces is taken as it is."""
    assert otel(variables).endpoint == endpoint


def test_the_configurations_own_endpoint_wins() -> None:
    """Over a variable that is meant for all programs of a host; but a variable that turns spans off holds."""
    assert otel({ENDPOINT: "http://c"}, otlp_endpoint="http://mine/x").endpoint == "http://mine/x"
    disabled = otel({"OTEL_SDK_DISABLED": "true"}, otlp_endpoint="http://mine/x")
    assert (disabled.off, disabled.endpoint) == ("OTEL_SDK_DISABLED", "")


def test_what_the_exporter_is_told(tmp_path: Path) -> None:
    """Headers are decoded, milliseconds become seconds, and what is said of traces goes before what is said of all."""
    pem = make_certificates(tmp_path).authority
    found = otel(
        {
            ENDPOINT: "https://c",
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20YTpi, x-scope = tenant ,",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(pem),
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,team=a%2Cb",
            "OTEL_SERVICE_NAME": "reviews",
        }
    )
    assert found.headers == {"authorization": "Basic YTpi", "x-scope": "tenant"}
    assert (found.timeout_s, found.gzip, found.certificate) == (2.5, True, str(pem))
    assert found.resource == {"deployment.environment.name": "test", "team": "a,b", "service.name": "reviews"}
    assert "YTpi" not in repr(found)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"),
        ({ENDPOINT: "collector:4318"}, "http://HOST:4318"),
        ({ENDPOINT: f"http://user:{SECRET}@c"}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ({ENDPOINT: "http://c:99999"}, "port"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": SECRET}, "name=value"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": f"a={SECRET}%0d%0ax: y"}, "name=value"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": f"a={SECRET}%E2%82%AC"}, "name=value"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": f"clé={SECRET}"}, "name=value"),
        ({ENDPOINT: "http://c/é"}, "percent-encoded"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"}, "can't be read"),
        ({"OTEL_EXPORTER_OTLP_CLIENT_KEY": __file__}, "set both"),
        ({"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/dev/null", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/x"}, "no cert"),
    ],
)
def test_what_would_go_wrong_is_refused_by_name(variables: dict[str, str], said: str) -> None:
    """With the fix, and without quoting a secret; where nothing is sent over HTTP, none of it matters."""
    problems = reading({ENDPOINT: "http://c", **variables}).problems
    assert next(iter(variables)) in [where for (where,), _ in problems]
    assert any(said in text and "; " in text for _, text in problems)
    assert SECRET not in str(problems)
    assert not reading({"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://c", **variables}).problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c"),
    ],
)
def test_other_bad_values_are_ignored_with_a_warning(name: str, value: str) -> None:
    """As the specification has it: as if the variable were not set."""
    found = reading({ENDPOINT: "http://c", name: value})
    assert [where for where, _ in found.warnings] == [name]
    assert not found.problems
    assert found.otel == otel({ENDPOINT: "http://c"})


@pytest.mark.parametrize(
    ("kind", "argument", "sampler"),
    [
        ("always_on", "", TraceSampler(False, 1.0)),
        ("always_off", "", TraceSampler(False, 0.0)),
        ("traceidratio", "0.25", TraceSampler(False, 0.25)),
        ("parentbased_always_on", "", TraceSampler(True, 1.0)),
        ("parentbased_always_off", "", TraceSampler(True, 0.0)),
        ("parentbased_traceidratio", "0.1", TraceSampler(True, 0.1)),
        ("parentbased_traceidratio", "", TraceSampler(True, 1.0)),
    ],
)
def test_samplers(kind: str, argument: str, sampler: TraceSampler) -> None:
    """Those that the specification names, a ratio without argument being 1."""
    assert otel({"OTEL_TRACES_SAMPLER": kind, "OTEL_TRACES_SAMPLER_ARG": argument}).sampler == sampler
    bad = reading({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"})
    assert (bad.otel.sampler, len(bad.warnings)) == (TraceSampler(False, 1.0), 1)


def test_a_sampler_takes_what_the_sdks_take() -> None:
    """By the low 64 bits of the trace id, so that all who see a trace decide alike."""
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    for ratio in (0.0, 0.3, 1.0):
        theirs = TraceIdRatioBased(ratio)
        for trace_id in (1, 2**63, 2**64 - 1, (7 << 64) + 2**62, (7 << 64) + int(0.3 * 2**64)):
            decision = theirs.should_sample(None, trace_id, "").decision
            assert TraceSampler(ratio=ratio).takes(trace_id) is (decision is not Decision.DROP)


def test_the_producer_decides_unless_the_sampler_is_not_parent_based() -> None:
    """A record's span follows its producer's flag, or the sampler alone; the micro-batch's own trace begins here."""

    def spans(sampler: TraceSampler) -> tuple[bool, list[bool]]:
        traces = [TraceParent(1, 1, True), TraceParent(2**64 - 1, 1, False), None]
        segment = Segment("t", 0, 0, [None] * 3, traces=traces)  # type: ignore[list-item]
        batch = MicroBatch(1, [segment], trace_id=2**63, span_id=5, taken_ns=0)
        sampler.begin(batch, traced=True)
        sampler.decide(batch.segments)
        assert segment.trace == ((2**63).to_bytes(16, "big") + (5).to_bytes(8, "big") if batch.sampled else b"")
        mark_spans(batch, 9)
        return batch.sampled, [bool(one) for one in segment.spans or [0, 0, 0]]

    assert spans(TraceSampler()) == (True, [True, False, False])
    assert spans(TraceSampler(ratio=0.0)) == (False, [True, False, False])
    assert spans(TraceSampler(False, 1.0)) == (True, [True, True, False])
    assert spans(TraceSampler(False, 0.0)) == (False, [False, False, False])


def test_the_command_line_refuses_shows_and_hides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`config check` names the variable; `config show` has those that are read, without their secrets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "streamer.toml").write_text('[telemetry]\nhttp = ""\n')
    monkeypatch.setenv(ENDPOINT, "http://c:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={SECRET}")
    checked = CliRunner().invoke(config, ["check"])
    assert f"warning: environment variable {ENDPOINT}: port 4317" in checked.output
    printed = CliRunner().invoke(config, ["show"]).output
    assert f"# {ENDPOINT}=http://c:4317\n# OTEL_EXPORTER_OTLP_HEADERS=api-key=(hidden)\n" in printed
    as_json = json.loads(CliRunner().invoke(config, ["show", "--json"]).output)
    assert as_json["environment"] == shown({ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=x"})
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    refused = CliRunner().invoke(config, ["check", "--json"])
    (problem,) = json.loads(refused.output)["problems"]
    assert problem["where"] == "environment variable OTEL_EXPORTER_OTLP_PROTOCOL"
    assert "http/protobuf" in problem["fix"]
    assert SECRET not in checked.output + printed + refused.output
