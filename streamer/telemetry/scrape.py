"""Read /metrics and /readyz of a driver, as its operators' page does: what only the driver itself knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from streamer.config.load import Config
from streamer.config.seats import address_at, seats_of
from streamer.errors import DependencyError, UsageError
from streamer.telemetry import catalogue

TIMEOUT_S: Final = 2.0
SIBLING_S: Final = 0.5  # a member of the same machine; a probe waits for it
MAX_BYTES: Final = 4_000_000

_open = build_opener(ProxyHandler({})).open  # a proxy of the environment's is for elsewhere


@dataclass(slots=True)
class Replica:
    """What one driver says of itself; None and empty is what it does not say. Counts are since its start."""

    address: str
    pipeline: str = ""
    slot: str = ""
    version: str = ""
    model: str = ""
    revision: str = ""
    device: str = ""
    ready: bool | None = None
    reasons: list[str] = field(default_factory=list)
    workers_ready: int | None = None
    worker_restarts: dict[str, int] = field(default_factory=dict)
    held: bool | None = None
    in_flight_bytes: int | None = None
    head_of_line_s: float | None = None
    cache_available: bool | None = None
    cache_lookups: dict[str, int] = field(default_factory=dict)
    lag_s: float | None = None
    forward_batches: int = 0
    forward_records: int = 0
    forward_s: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)


def metrics_urls(config: Config, named: Sequence[str] = ()) -> list[str]:
    """Those that --metrics names, else where `streamer run` serves the metrics of these pipelines on this machine: none
    where the port is any. Raises UsageError for what is no URL."""
    for url in named:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--metrics {url}: write a URL, e.g. http://127.0.0.1:9464/metrics")
    http = config.telemetry.http
    if named or not int(http.rpartition(":")[2] or 0):
        return list(named)
    return [f"{_url_at(http, place)}/metrics" for place in range(len(seats_of(config.pipelines)))]


def unready_at(http: str, place: int) -> list[str]:
    """Why the process that serves at this place of `telemetry.http` is not ready; none if it is."""
    try:
        return msgspec.json.decode(_get(f"{_url_at(http, place)}/readyz", SIBLING_S), type=_Verdict).reasons
    except (OSError, HTTPException, ValueError):
        return ["it does not answer"]


def _url_at(http: str, place: int) -> str:
    host, _, port = address_at(http, place).rpartition(":")
    return f"http://{({'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}).get(host, host)}:{port}"


def scrape(url: str) -> Replica:
    """Ask the driver whose metrics are at this URL. Raises DependencyError when it does not answer as one."""
    try:
        replica = read_metrics(url, _get(url))
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or type(error).__name__
        raise DependencyError(f"{url} does not answer with metrics ({why})") from None
    if not replica.pipeline:
        raise DependencyError(f"{url} answers, but has no metrics of streamer")
    try:
        verdict = msgspec.json.decode(_get(url.removesuffix("/metrics") + "/readyz"), type=_Verdict)
        replica.ready, replica.reasons = verdict.ok, verdict.reasons
    except (OSError, HTTPException, ValueError):  # behind a gateway that passes /metrics alone
        pass
    return replica


def scraped(url: str) -> Replica | str:
    """The same, or why there is none."""
    try:
        return scrape(url)
    except DependencyError as error:
        return str(error)


def read_metrics(url: str, text: str) -> Replica:
    """A driver's metrics in Prometheus' text format. Raises ValueError for anything else."""
    replica = Replica(url)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            _take(replica, sample.name, sample.labels, sample.value)
    return replica


class _Verdict(msgspec.Struct):
    ok: bool
    reasons: list[str]


def _get(url: str, timeout_s: float = TIMEOUT_S) -> str:
    """The page's text; a 503 of /readyz is an answer too."""
    try:
        with _open(url, timeout=timeout_s) as answer:
            return str(answer.read(MAX_BYTES).decode())
    except HTTPError as error:
        with error:
            return error.read(MAX_BYTES).decode()


_FIELDS: Final[Mapping[str, tuple[str, Callable[[float], float]]]] = {
    catalogue.WORKERS_READY.name: ("workers_ready", int),
    catalogue.HELD.name: ("held", bool),
    catalogue.IN_FLIGHT_BYTES.name: ("in_flight_bytes", int),
    catalogue.HEAD_OF_LINE.name: ("head_of_line_s", float),
    catalogue.CACHE_AVAILABLE.name: ("cache_available", bool),
    catalogue.FORWARD_RECORDS.name: ("forward_records", int),
    f"{catalogue.FORWARD.name}_count": ("forward_batches", int),
    f"{catalogue.FORWARD.name}_sum": ("forward_s", float),
}


def _take(replica: Replica, name: str, labels: dict[str, str], value: float) -> None:
    replica.pipeline = labels.get("pipeline", replica.pipeline)
    if name in _FIELDS:
        field, kind = _FIELDS[name]
        setattr(replica, field, kind(value))
    elif name == catalogue.INFO.name:
        for label in catalogue.INFO.labels:
            setattr(replica, label, labels.get(label, ""))
    elif name == catalogue.WORKER_RESTARTS.name:
        _count(replica.worker_restarts, (labels["reason"],), value)
    elif name == catalogue.CACHE_LOOKUPS.name:
        _count(replica.cache_lookups, (labels["tier"], labels["outcome"]), value)
    elif name == catalogue.TOKENS.name:
        _count(replica.tokens, (labels["kind"],), value)
    elif name == catalogue.LAG_SECONDS.name:
        replica.lag_s = max(replica.lag_s or 0.0, value)


def _count(counts: dict[str, int], names: Iterable[str], value: float) -> None:
    if value:
        name = ".".join(names)
        counts[name] = counts.get(name, 0) + int(value)
