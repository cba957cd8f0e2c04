"""The fields of the configuration: names, types, bounds, defaults, and for each when to change it.

`schemas/config.json` is generated from these types (`python -m streamer.config > schemas/config.json`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from streamer.config.health import HealthConfig
from streamer.config.kinds import kind
from streamer.config.pipeline import TOPIC_KIND, PipelineConfig
from streamer.config.registry import SchemaRegistryConfig

PIPELINE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
Property = str | int | float | bool


class KafkaConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The Kafka cluster that holds all topics."""

    bootstrap_servers: Annotated[
        str,
        Meta(
            min_length=1,
            description="Brokers to ask first: host:port, separated by commas. Change it to your cluster's; two or"
            " three brokers are enough, the rest are found.",
        ),
    ] = "localhost:9092"
    properties: Annotated[
        dict[str, Property],
        Meta(
            description="librdkafka properties for every client, e.g. security.protocol. NAME_file reads the value of"
            " NAME from a file (sasl.password_file). Change them for security and networks; what streamer sets itself"
            " (group.id, isolation.level …) is refused."
        ),
    ] = {}
    oauth_callback: Annotated[
        str,
        kind('module:function, or ""'),
        Meta(
            pattern=r"^$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
            description="A Python function that gives login tokens for SASL OAUTHBEARER, as module:function; found in"
            " the directory that the program is started in, or installed. It is called with the property"
            " sasl.oauthbearer.config and returns (token, expiry in seconds since 1970). Set it where the client's own"
            " OIDC (sasl.oauthbearer.method) does not fit, e.g. for MSK IAM.",
        ),
    ] = ""
    strict_topics: Annotated[
        bool,
        Meta(
            description="Do not start if the dead-letter topic takes no larger records than the input: a dead letter"
            " that does not fit is written without its value, and can't be replayed. Set true if each must be"
            " replayable."
        ),
    ] = False

    def __repr__(self) -> str:
        """Without the properties: they may hold passwords."""
        return f"KafkaConfig(bootstrap_servers={self.bootstrap_servers!r}, properties=<{len(self.properties)}>)"


class CacheConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where answers are kept, for when the same input comes again."""

    url: Annotated[
        str,
        Meta(
            description="Redis that all replicas share: redis://HOST:PORT/DATABASE (rediss:// for TLS), unix:///PATH,"
            " redis+sentinel://HOST:PORT,HOST:PORT/NAME/DATABASE for the primary that sentinels call NAME, or"
            ' redis+cluster://HOST:PORT,HOST:PORT. "" keeps answers in the driver\'s memory only. Set it when more than'
            " one replica sees the same texts."
        ),
    ] = ""
    url_file: Annotated[
        str,
        Meta(description="A file that holds the URL, instead of `url`. Use it when the URL has a password."),
    ] = ""
    key_file: Annotated[
        str,
        Meta(
            description="A file of 32 or more characters, the key that proves who wrote a value in Redis; made if it"
            ' does not exist. "" means streamer/cache.key in $XDG_STATE_HOME (~/.local/state). Copy one file to every'
            " host: replicas with the same key share answers."
            ' "none" uses no key, and trusts any output that fits its task\'s schema: only if nobody else can write to'
            " that Redis."
        ),
    ] = ""
    memory_mb: Annotated[
        int,
        Meta(
            ge=0,
            description="MB of answers kept in the driver's memory; 0 turns it off. Raise it when many texts repeat"
            " and streamer_cache_lookups_total shows misses.",
        ),
    ] = 12
    ttl_s: Annotated[
        int,
        Meta(
            ge=1,
            description="Seconds that an answer stays in Redis. Lower it when Redis runs full; answers never go stale,"
            " since everything that decides them is part of the key.",
        ),
    ] = 86400

    def __repr__(self) -> str:
        """Without the URL: it may hold a password."""
        return f"CacheConfig(url={'<set>' if self.url else ''!r}, memory_mb={self.memory_mb}, ttl_s={self.ttl_s})"


class TelemetryConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What streamer reports about itself."""

    spans: Annotated[
        str,
        kind(f'{TOPIC_KIND}, or ""'),
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,249}$",
            description='Topic for OTLP spans; "" turns tracing off. Change it to the topic that the OpenTelemetry'
            " Collector reads.",
        ),
    ] = "otlp_spans"
    otlp_endpoint: Annotated[
        str,
        kind('an HTTP URL, or ""'),
        Meta(
            description='URL that takes OTLP spans by POST, beside the topic: http://localhost:4318/v1/traces; ""'
            " takes what OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT says. Set it where the"
            " receiver reads no Kafka.",
        ),
    ] = ""
    reports: Annotated[
        str,
        kind(f'{TOPIC_KIND}, or ""'),
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,249}$",
            description='Topic for reports, one per settle; "" turns them off. Change it'
            " to keep deployments apart on one cluster.",
        ),
    ] = "streamer.reports"
    http: Annotated[
        str,
        kind('host:port, or ""'),
        Meta(
            pattern=r"^$|^.+:[0-9]{1,5}$",
            description='host:port of /metrics, /livez and /readyz; "" turns it off, port 0 takes any. Change the host'
            " to 0.0.0.0 in a container.",
        ),
    ] = "127.0.0.1:9464"
    max_spans_per_s: Annotated[
        int,
        Meta(
            ge=0,
            description="The most spans of records per second; the rest are only counted. A span costs 14 µs: raise it"
            " when sampled records lack their spans and there is CPU to spare.",
        ),
    ] = 500
    gen_ai: Annotated[
        bool,
        Meta(
            description="Put the attributes gen_ai.* (OpenTelemetry's conventions for generative AI: operation, model,"
            " tokens) on the spans of forward batches, where the task generates text or embeds. Set true for tools that"
            " read them; the conventions may still change."
        ),
    ] = False
    log_format: Annotated[
        Literal["auto", "console", "json"],
        Meta(
            description="auto writes for people on a terminal, and JSON lines elsewhere. Change it when a log collector"
            " or a pager gets the wrong format."
        ),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The lowest level that is logged. Set debug to follow rebalances and the Kafka client."),
    ] = "info"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The configuration of `streamer`: one TOML file, environment variables over it, flags over both."""

    kafka: KafkaConfig = KafkaConfig()
    schema_registry: SchemaRegistryConfig = SchemaRegistryConfig()
    cache: CacheConfig = CacheConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    health: HealthConfig = HealthConfig()
    pipelines: Annotated[
        dict[Annotated[str, Meta(pattern=PIPELINE_NAME)], PipelineConfig],
        Meta(description="Pipelines by name; `streamer run` runs each in a process of its own."),
    ] = {}
