"""The client of a schema registry: how it is made, what it needs, and what it means when it gives nothing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from streamer.config.certificates import registry_problem
from streamer.config.registry import SchemaRegistryConfig
from streamer.errors import ConfigurationError
from streamer.extras import install_command

TYPES: Final = {"avro": "AVRO", "protobuf": "PROTOBUF", "json-schema": "JSON"}
"""What a registry calls our formats."""


class Outage(NamedTuple):
    """Why the registry gives no schema: what it says, and how to fix it."""

    what: str
    fix: str


def require(config: SchemaRegistryConfig, format_: str) -> None:
    """Raises ConfigurationError where a library or a file is not there."""
    needed = {"avro": ["fastavro"], "protobuf": ["google.type"], "json-schema": ["jsonschema", "re2"]}[format_]
    for library in ("authlib", "cachetools", *needed):
        try:
            found = find_spec(library)
        except ModuleNotFoundError:  # not even what it is a part of
            found = None
        if found is None:
            raise ConfigurationError(
                f"the format {format_} needs {library}, which is not installed; install it with"
                f" {install_command('registry')}"
            )
    if problem := registry_problem(config):
        raise ConfigurationError(f"schema_registry.{problem[0]}: {problem[1]}")


def connect_registry(config: SchemaRegistryConfig) -> Any:
    """confluent-kafka's client. It does not try again by itself: its caller does, and says so."""
    from confluent_kafka.schema_registry import SchemaRegistryClient

    conf: dict[str, Any] = {"url": config.url, "timeout": config.timeout_s, "max.retries": 0}
    if config.user:
        conf["basic.auth.user.info"] = f"{config.user}:{config.password}"
    files = {
        "ssl.ca.location": config.ca_file,
        "ssl.certificate.location": config.certificate_file,
        "ssl.key.location": config.key_file,
    }
    return SchemaRegistryClient(conf | {name: file for name, file in files.items() if file})


def outage_of(error: Exception, url: str) -> Outage:
    """In words that hold nothing of the answer."""
    status = getattr(error, "http_status_code", None)
    if status in (401, 403):
        return Outage(
            f"the schema registry at {url} does not let us in (HTTP {status})",
            "correct user and password of [schema_registry], or have this user allowed to read the subject",
        )
    if status == 404 or (status is None and isinstance(error, ValueError)):  # a page for people, say
        said = f"HTTP {status}" if status else "its answer is no JSON"
        return Outage(
            f"what answers at {url} is no schema registry ({said})", "correct schema_registry.url, then restart"
        )
    what = f"HTTP {status}" if status else type(error).__name__
    return Outage(
        f"the schema registry at {url} gives no schemas ({what})",
        "look at the registry, the network and [schema_registry]",
    )
