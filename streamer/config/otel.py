"""The `OTEL_*` variables, as the OpenTelemetry specification defines them: where spans go over HTTP, in whose name, and
which ones.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

An empty variable counts as unset. A value that the specification lets an SDK ignore is ignored with a warning; what
would send spans to the wrong place, or without what the receiver asks for, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from streamer.config.certificates import tls_problem
from streamer.config.fields import TelemetryConfig
from streamer.config.problems import Problem
from streamer.config.url import HIDDEN, redacted_url
from streamer.core.trace_sampler import TraceSampler

EXPORTER: Final = "OTEL_TRACES_EXPORTER"
DISABLED: Final = "OTEL_SDK_DISABLED"
SAMPLER: Final = "OTEL_TRACES_SAMPLER"
SAMPLER_ARG: Final = "OTEL_TRACES_SAMPLER_ARG"
SERVICE_NAME: Final = "OTEL_SERVICE_NAME"
RESOURCE_ATTRIBUTES: Final = "OTEL_RESOURCE_ATTRIBUTES"
_OF_EXPORTER: Final = (
    "ENDPOINT", "PROTOCOL", "HEADERS", "CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE", "COMPRESSION", "TIMEOUT",
)  # fmt: skip
_DEFAULT_ENDPOINT: Final = "http://localhost:4318/v1/traces"
_PATH: Final = "v1/traces"
_ALWAYS: Final = {"always_on": 1.0, "always_off": 0.0}
_TIMEOUT_S: Final = 10.0
_LAST_OF_HTTP: Final = "\xff"  # a header's value is Latin-1


class Otel(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans go over HTTP, in whose name, and which ones.

    `off` is the variable that turns spans off, "" where none does. `endpoint` is the URL that takes them by POST, ""
    for none. `resource` lies over the attributes that streamer gives itself.
    """

    off: str = ""
    endpoint: str = ""
    headers: dict[str, str] = {}
    certificate: str = ""
    client_key: str = ""
    client_certificate: str = ""
    gzip: bool = False
    timeout_s: float = _TIMEOUT_S
    resource: dict[str, str] = {}
    sampler: TraceSampler = TraceSampler()

    def __repr__(self) -> str:
        """Without headers: they may hold secrets."""
        return f"Otel(endpoint={redacted_url(self.endpoint)!r}, headers=<{len(self.headers)}>)"


class OtelReading(NamedTuple):
    """What the variables say; what is refused, as (variable, what and fix); and what is ignored, likewise."""

    otel: Otel
    problems: list[Problem]
    warnings: list[tuple[str, str]]


def read(environ: Mapping[str, str], telemetry: TelemetryConfig) -> OtelReading:
    """Take the variables in, beside the configuration. Certificates are read to see whether they can be."""
    return _Reader(environ, telemetry).read()


def shown(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables that are set and read, without their secrets."""
    each = {name: environ[name] for name in sorted(_names()) if environ.get(name, "").strip()}
    for name, value in each.items():
        if name.endswith("_HEADERS"):
            each[name] = ",".join(f"{pair.partition('=')[0].strip()}={HIDDEN}" for pair in value.split(","))
        elif name.endswith("_ENDPOINT"):
            each[name] = redacted_url(value)
    return each


def endpoint_problem(url: str) -> str:
    """Why spans can't be sent there, and the fix; "" where they can. Quotes nothing of it: it may hold a password."""
    form = "write http://HOST:4318/v1/traces or https://…"
    try:
        parts = urlsplit(url)
        named, port = parts.hostname, parts.port
    except ValueError:
        return f"its port is not a number from 1 to 65535, or its host is not a name; {form}"
    if any(char.isspace() or not char.isprintable() for char in url) or parts.scheme not in ("http", "https"):
        return f"no URL of HTTP; {form}"
    if not parts.path.isascii() or not parts.query.isascii():
        return "a letter of its path is none of HTTP; write it percent-encoded"
    if not named or port == 0:
        return f"its host is missing, or its port is 0; {form}"
    if "@" in parts.netloc:
        return "a user or password is in it; remove it, and set OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20…"
    return ""


def _names() -> Iterator[str]:
    yield from (EXPORTER, DISABLED, SAMPLER, SAMPLER_ARG, SERVICE_NAME, RESOURCE_ATTRIBUTES)
    for one in _OF_EXPORTER:
        yield f"OTEL_EXPORTER_OTLP_{one}"
        yield f"OTEL_EXPORTER_OTLP_TRACES_{one}"


class _Reader:
    def __init__(self, environ: Mapping[str, str], telemetry: TelemetryConfig) -> None:
        self._environ = environ
        self._configured = telemetry.otlp_endpoint
        self._problems: list[Problem] = []
        self._warnings: list[tuple[str, str]] = []

    def read(self) -> OtelReading:
        off, wanted = self._exporter()
        endpoint = "" if off else self._endpoint(wanted)
        otel = Otel(
            off=off,
            resource=self._resource(),
            sampler=self._sampler(),
        )
        if endpoint:
            self._refuse_other_protocols()
            certificate, key, own = (self._of(one)[1] for one in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"))
            otel = msgspec.structs.replace(
                otel,
                endpoint=endpoint,
                headers=self._headers(),
                certificate=certificate,
                client_key=key,
                client_certificate=own,
                gzip=self._gzip(),
                timeout_s=self._timeout_s(),
            )
            self._check_certificates(otel)
        return OtelReading(otel, self._problems, self._warnings)

    def _get(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def _of(self, what: str) -> tuple[str, str]:
        """A setting of the exporter: the variable for traces, else the one for all signals; name and value."""
        name = f"OTEL_EXPORTER_OTLP_TRACES_{what}"
        if value := self._get(name):
            return name, value
        name = f"OTEL_EXPORTER_OTLP_{what}"
        return name, self._get(name)

    def _refuse(self, name: str, text: str) -> None:
        self._problems.append(((name,), text))

    def _ignore(self, name: str, text: str) -> None:
        self._warnings.append((name, text))

    def _exporter(self) -> tuple[str, bool]:
        """What turns spans off, and whether an exporter is asked for by name."""
        disabled = self._get(DISABLED).lower()
        if disabled not in ("", "true", "false"):
            self._ignore(DISABLED, "neither true nor false; it counts as false")
        if disabled == "true":
            return DISABLED, False
        chosen = {one.strip().lower() for one in self._get(EXPORTER).split(",")} - {""}
        if other := sorted(chosen - {"otlp", "none"}):
            self._ignore(EXPORTER, f"there is no exporter {', '.join(other)} here, only otlp and none; it is ignored")
        return (EXPORTER if "none" in chosen and "otlp" not in chosen else ""), "otlp" in chosen

    def _endpoint(self, wanted: bool) -> str:
        """The configuration's own, else that of the variables; the general one is a base for all signals."""
        if self._configured:
            return self._configured
        name, url = self._of("ENDPOINT")
        if not url:
            return _DEFAULT_ENDPOINT if wanted else ""
        if problem := endpoint_problem(url):
            self._refuse(name, problem)
            return ""
        parts = urlsplit(url)
        if "_TRACES_" not in name:
            url = parts._replace(path=f"{parts.path.rstrip('/')}/{_PATH}").geturl()
        if parts.port == 4317:
            self._ignore(name, "port 4317 usually takes gRPC, and spans are sent over HTTP; that is usually port 4318")
        return url

    def _refuse_other_protocols(self) -> None:
        name, protocol = self._of("PROTOCOL")
        if protocol in ("grpc", "http/json"):
            fix = f"set {name}=http/protobuf, with the receiver's HTTP port (usually 4318), or {EXPORTER}=none"
            self._refuse(name, f"spans are sent as http/protobuf, not as {protocol}; {fix}")
        elif protocol not in ("", "http/protobuf"):
            self._ignore(name, "no such protocol; it is ignored, and http/protobuf is used")

    def _headers(self) -> dict[str, str]:
        name, text = self._of("HEADERS")
        try:
            pairs = list(_pairs(text))
        except ValueError:
            self._refuse(name, "not a list of headers; write name=value, with commas between, values percent-encoded")
            return {}
        for key, value in pairs:
            sound = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
            if not sound or not value.isprintable() or (value and max(value) > _LAST_OF_HTTP):
                self._refuse(name, "a name or a value is none of HTTP; write name=value, with values percent-encoded")
                return {}
        return {key.lower(): value for key, value in pairs}

    def _gzip(self) -> bool:
        name, value = self._of("COMPRESSION")
        if value not in ("", "none", "gzip"):
            self._ignore(name, "neither gzip nor none; it is ignored, and nothing is compressed")
        return value == "gzip"

    def _timeout_s(self) -> float:
        name, value = self._of("TIMEOUT")
        if not value:
            return _TIMEOUT_S
        return (
            self._number(name, value, "a number of milliseconds above 0", lambda ms: ms > 0, 1000 * _TIMEOUT_S) / 1000
        )

    def _check_certificates(self, otel: Otel) -> None:
        if bool(otel.client_key) != bool(otel.client_certificate):
            name, _ = self._of("CLIENT_KEY" if otel.client_key else "CLIENT_CERTIFICATE")
            self._refuse(name, "the client's key and certificate belong together; set both, or none")
            return
        authority, certificate, key = map(self._of, ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"))
        if found := tls_problem(authority, certificate, key):
            self._refuse(*found)

    def _resource(self) -> dict[str, str]:
        attributes: dict[str, str] = {}
        try:
            attributes = dict(_pairs(self._get(RESOURCE_ATTRIBUTES)))
        except ValueError:
            self._ignore(RESOURCE_ATTRIBUTES, "not a list of key=value with commas between; all of it is ignored")
        if name := self._get(SERVICE_NAME):
            attributes["service.name"] = name
        return attributes

    def _sampler(self) -> TraceSampler:
        kind, argument = self._get(SAMPLER).lower(), self._get(SAMPLER_ARG)
        rule = kind.removeprefix("parentbased_")
        if kind and rule not in (*_ALWAYS, "traceidratio"):
            self._ignore(SAMPLER, "no sampler of this name here; it is ignored, and parentbased_always_on is used")
            return TraceSampler()
        ratio = _ALWAYS.get(rule, 1.0)
        if rule == "traceidratio" and argument:
            ratio = self._number(SAMPLER_ARG, argument, "a number from 0 to 1", lambda share: 0 <= share <= 1, 1.0)
        return TraceSampler(rule != kind or not kind, ratio)

    def _number(self, name: str, text: str, form: str, holds: Callable[[float], bool], default: float) -> float:
        try:
            number = float(text)
            if isfinite(number) and holds(number):
                return number
        except ValueError:
            pass
        self._ignore(name, f"not {form}; it is ignored, and {default:g} is used")
        return default


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """`key=value,key=value`, with percent-encoded values. Raises ValueError where an entry is none."""
    for entry in text.split(","):
        if not entry.strip():
            continue
        key, equals, value = entry.partition("=")
        if not equals or not key.strip():
            raise ValueError
        yield unquote(key.strip(), errors="strict"), unquote(value.strip(), errors="strict")
