"""Which librdkafka properties a user may set, which are harmless to show, and a configuration without its secrets."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.config.fields import Config, Property
from streamer.config.url import HIDDEN, redacted_url

# Refused: they run commands, load code, or switch off what proves who the broker is.
FORBIDDEN = {
    "sasl.kerberos.kinit.cmd": "it runs a shell command; renew tickets outside, e.g. with k5start",
    "plugin.library.paths": "it loads code into the process",
    "enable.sasl.oauthbearer.unsecure.jwt": "it accepts unsigned tokens",
}
FORBIDDEN_PREFIXES = {"test.mock.": "it replaces the cluster by a fake one"}
FORBIDDEN_VALUES = {
    (
        "ssl.endpoint.identification.algorithm",
        "none",
    ): "any broker with any certificate would be trusted",
    (
        "enable.ssl.certificate.verification",
        "false",
    ): "any broker with any certificate would be trusted",
}

_GUARANTEE = "it is part of the guarantee that streamer gives"
# Set by streamer alone, with the reason.
OWNED = {
    "bootstrap.servers": "write kafka.bootstrap_servers instead",
    "metadata.broker.list": "write kafka.bootstrap_servers instead",
    "group.id": "write pipelines.NAME.group instead",
    "group.instance.id": "it is the slot: write pipelines.NAME.slot or static_membership instead",
    "transactional.id": "it is {group}.{slot}: write pipelines.NAME.slot instead",
    "group.protocol": "streamer is written for the classic protocol",
    "partition.assignment.strategy": "streamer is written for cooperative-sticky",
    "enable.auto.commit": _GUARANTEE,
    "auto.commit.enable": _GUARANTEE,
    "enable.auto.offset.store": _GUARANTEE,
    "isolation.level": _GUARANTEE,
    "enable.idempotence": _GUARANTEE,
    "acks": _GUARANTEE,
    "request.required.acks": _GUARANTEE,
    "enable.gapless.guarantee": _GUARANTEE,
    "auto.offset.reset": "write pipelines.NAME.start and on_out_of_range instead",
    "queued.max.messages.kbytes": "it comes from pipelines.NAME.budget_mb: change that instead",
    "linger.ms": "outcomes are sent at once; write pipelines.NAME.linger_ms to gather records instead",
    "batch.size": "it comes from the topics' max.message.bytes",
    "queue.buffering.max.ms": "outcomes are sent at once; write pipelines.NAME.linger_ms to gather records instead",
    "delivery.report.only.error": "streamer counts deliveries itself",
    "partitioner": "write pipelines.NAME.partitioning instead",
    "allow.auto.create.topics": "run `streamer topics create` instead",
    "enable.partition.eof": "streamer decides it for each client",
    "statistics.interval.ms": "streamer has metrics of its own: see telemetry.http",
    "log_level": "write telemetry.log_level instead",
    "log.queue": "streamer logs what the client says",
}

_HARMLESS_SUFFIXES = (
    ".ms",
    ".bytes",
    ".kbytes",
    ".messages",
    ".size",
    ".retries",
    ".level",
)
_HARMLESS = frozenset(
    {
        "broker.address.family",
        "broker.address.ttl",
        "check.crcs",
        "client.dns.lookup",
        "client.id",
        "client.rack",
        "compression.codec",
        "compression.type",
        "debug",
        "enable.ssl.certificate.verification",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "sasl.kerberos.service.name",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.method",
        "security.protocol",
        "socket.keepalive.enable",
        "socket.nagle.disable",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.cipher.suites",
        "ssl.endpoint.identification.algorithm",
    }
)
_SECRET_WORDS = (
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "api_key",
    "apikey",
    "access_key",
    "key.pem",
    "jaas",
    "oauthbearer.config",
)


def property_text(value: Property) -> str:
    """A property's value as librdkafka reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def refusal(name: str, value: Property) -> str | None:
    """Why this property may not be set; None when it may."""
    if name in OWNED:
        return f"streamer sets it itself: {OWNED[name]}"
    if name.endswith("_cb"):
        return "callbacks are streamer's own: remove it"
    reason = FORBIDDEN.get(name)
    for prefix, prefix_reason in FORBIDDEN_PREFIXES.items():
        if name.startswith(prefix):
            reason = prefix_reason
    reason = reason or FORBIDDEN_VALUES.get((name, property_text(value).lower()))
    return f"it is not allowed: {reason}; remove it" if reason else None


def redacted(config: Config) -> dict[str, Any]:
    """The configuration for people to read: only properties known to be harmless keep their value, and a URL loses
    its password and query."""
    shown: dict[str, Any] = msgspec.to_builtins(config)
    shown["kafka"]["properties"] = {
        name: value if is_harmless(name) else HIDDEN for name, value in config.kafka.properties.items()
    }
    shown["cache"]["url"] = "" if config.cache.url_file else redacted_url(config.cache.url)
    shown["telemetry"]["otlp_endpoint"] = redacted_url(config.telemetry.otlp_endpoint)
    shown["schema_registry"]["password"] = HIDDEN if config.schema_registry.password else ""
    shown["health"]["webhook"] = HIDDEN if config.health.webhook else ""
    for pipeline in shown["pipelines"].values():
        pipeline["options"] = _without_secrets(pipeline["options"])
    return shown


def is_harmless(name: str) -> bool:
    """Whether a property's value may be shown."""
    return name in _HARMLESS or name.endswith(_HARMLESS_SUFFIXES)


def is_secret(name: str) -> bool:
    """Whether a property or option is named like a secret."""
    return any(word in name.lower() for word in _SECRET_WORDS)


def _without_secrets(value: Any) -> Any:
    """Options are the task's own, so no list of harmless ones exists: what is named like a secret is hidden."""
    if isinstance(value, dict):
        return {key: HIDDEN if is_secret(str(key)) else _without_secrets(inner) for key, inner in value.items()}
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value
