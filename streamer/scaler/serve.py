"""KEDA's external-push scaler over gRPC: four calls, and gRPC's own health check."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio

from streamer.config.certificates import tls_problem
from streamer.config.load import Config
from streamer.core.scaling import Wish, wish_of
from streamer.errors import ConfigurationError, DependencyError, StreamerError
from streamer.ops.scaling import ScaleWatch, Seen
from streamer.scaler import wire
from streamer.scaler.watching import Watching

_log = logging.getLogger(__name__)

METRIC: Final = "streamer-replicas"
"""Of every pipeline: KEDA puts the trigger's number before it, and refuses names of more than 63 characters."""
AGAIN_S: Final = 60.0
"""After so long a stream repeats what it said."""
_MOST_TOLD: Final = 1_000
_GRACE_S: Final = 1.0
_OPTIONS: Final = [
    ("grpc.so_reuseport", 0),  # a second scaler on this port would get some of the calls
    # Pings end streams whose client is gone, and keep those that a proxy would close for being quiet.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_receive_message_length", 256 * 1024),
]


class Certificates(NamedTuple):
    """PEM files of the server's certificate and key, and of the authority that signs clients', None to ask for none."""

    certificate: Path
    key: Path
    client_authority: Path | None = None


class Scaler:
    """Answers the calls. What a ScaledObject asks for is in its metadata, with every call."""

    def __init__(self, config: Config, watching: Watching) -> None:
        self._pipelines = config.pipelines
        self._watching = watching
        self._told: dict[tuple[str, str], int] = {}

    def services(self) -> list[grpc.GenericRpcHandler]:
        """What the server serves."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        ref = wire.ScaledObjectRef
        calls = {
            "IsActive": _handler(unary, self.is_active, ref),
            "StreamIsActive": _handler(stream, self.stream_is_active, ref),
            "GetMetricSpec": _handler(unary, self.get_metric_spec, ref),
            "GetMetrics": _handler(unary, self.get_metrics, wire.GetMetricsRequest),
        }
        checks = {"Check": _handler(unary, self.check, wire.HealthCheckRequest)}
        return [
            grpc.method_handlers_generic_handler(f"{wire.SCALER}.ExternalScaler", calls),
            grpc.method_handlers_generic_handler(f"{wire.HEALTH}.Health", checks),
        ]

    async def is_active(self, ref: Any, context: Any) -> Any:
        """Whether the pipeline needs a replica at all."""
        wish = await self._wish(ref, context)
        return wire.IsActiveResponse(result=(await self._seen(wish, context)).replicas(wish) > 0)

    async def stream_is_active(self, ref: Any, context: Any) -> AsyncIterator[Any]:
        """The same: at once, whenever it changes, and every minute. While the brokers do not answer nothing is said."""
        wish = await self._wish(ref, context)
        said, at_s = None, 0.0
        async for seen in self._watching.every(wish.pipeline):
            active = seen.replicas(wish) > 0
            if active != said or time.monotonic() - at_s >= AGAIN_S:
                said, at_s = active, time.monotonic()
                yield wire.IsActiveResponse(result=active)

    async def get_metric_spec(self, ref: Any, context: Any) -> Any:
        """One metric, which counts replicas: its target is 1."""
        await self._wish(ref, context)
        return wire.GetMetricSpecResponse(metricSpecs=[{"metricName": METRIC, "targetSize": 1, "targetSizeFloat": 1.0}])

    async def get_metrics(self, request: Any, context: Any) -> Any:
        """How many replicas the pipeline needs."""
        ref = request.scaledObjectRef
        wish = await self._wish(ref, context)
        if request.metricName not in ("", METRIC):
            why = f"there is no metric {request.metricName[:80]}; this scaler has {METRIC}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)
        seen = await self._seen(wish, context)
        needed = seen.replicas(wish)
        self._tell((ref.namespace, ref.name), needed, seen, wish)
        values = [{"metricName": METRIC, "metricValue": needed, "metricValueFloat": float(needed)}]
        return wire.GetMetricsResponse(metricValues=values)

    async def check(self, request: Any, context: Any) -> Any:
        """That the scaler runs. Whether the brokers answer is said with each call."""
        return wire.HealthCheckResponse(status=wire.SERVING)

    async def _wish(self, ref: Any, context: Any) -> Wish:
        wish, wrong = wish_of(dict(ref.scalerMetadata), self._pipelines)
        if wish is None:
            why = f"ScaledObject {ref.namespace}/{ref.name}: {'. '.join(wrong)}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)
        assert wish is not None
        return wish

    async def _seen(self, wish: Wish, context: Any) -> Seen:
        """Where nothing is known of the pipeline the call fails: KEDA then uses the ScaledObject's fallback, whereas
        any number would scale."""
        try:
            return await self._watching.now(wish.pipeline)
        except StreamerError as error:
            code = grpc.StatusCode.INTERNAL
            if isinstance(error, DependencyError):
                code = grpc.StatusCode.UNAVAILABLE
            elif isinstance(error, ConfigurationError):
                code = grpc.StatusCode.FAILED_PRECONDITION
            await context.abort(code, str(error))
            raise

    def _tell(self, who: tuple[str, str], needed: int, seen: Seen, wish: Wish) -> None:
        """Log why a ScaledObject gets another number than before."""
        if self._told.get(who) == needed:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[who] = needed
        data = {
            "name": "/".join(who),
            "pipeline": wish.pipeline,
            "replicas": needed,
            "records": round(seen.backlog.records),
            "rate": round(seen.backlog.arriving, 1),
            "capacity": None if seen.capacity is None else round(seen.capacity, 1),
            "within_s": wish.drain_s,
        }
        _log.info("replicas needed", extra={"data": data})


async def serve(
    config: Config,
    host: str,
    port: int,
    every_s: float,
    stop: asyncio.Event,
    started: Callable[[int], None],
    certificates: Certificates | None = None,
) -> None:
    """Serve until `stop`; `started` is told the port. Raises ConfigurationError where the address can't be bound or a
    certificate can't be read."""
    if certificates is not None:
        _check(certificates)
    watch = ScaleWatch(config)
    watching = Watching(watch, every_s)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(tuple(Scaler(config, watching).services()))
    address = f"{host}:{port}"
    try:
        if certificates is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, _credentials(certificates))
    except RuntimeError:
        raise ConfigurationError(f"can't listen on {address}; choose another --port or --host") from None
    await server.start()
    started(bound)
    try:
        await stop.wait()
    finally:
        watching.close()
        await server.stop(_GRACE_S)


def _handler(kind: Callable[..., Any], call: Callable[..., Any], request: Any) -> Any:
    return kind(
        call, request_deserializer=request.FromString, response_serializer=lambda made: made.SerializeToString()
    )


def _check(files: Certificates) -> None:
    """gRPC says only that it can't listen."""
    authority = ("--client-ca", str(files.client_authority or ""))
    if found := tls_problem(authority, ("--tls-cert", str(files.certificate)), ("--tls-key", str(files.key))):
        raise ConfigurationError(": ".join(found))


def _credentials(files: Certificates) -> grpc.ServerCredentials:
    """Read again when a file changes, as certificates are renewed while this runs."""

    def times() -> list[int]:
        return [path.stat().st_mtime_ns for path in files if path is not None]

    def loaded() -> grpc.ServerCertificateConfiguration:
        authority = files.client_authority
        pairs = [(files.key.read_bytes(), files.certificate.read_bytes())]
        return grpc.ssl_server_certificate_configuration(pairs, authority.read_bytes() if authority else None)

    read = times()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal read
        try:
            if (now := times()) == read:
                return None
            found = loaded()
        except OSError as error:  # while they are being replaced
            _log.warning("certificates can't be reloaded", extra={"data": {"error": type(error).__name__}})
            return None
        read = now
        return found

    return grpc.dynamic_ssl_server_credentials(
        loaded(), renewed, require_client_authentication=files.client_authority is not None
    )
