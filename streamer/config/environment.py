"""How environment variables name what the configuration holds, and which of them look as if they were meant to.

`STREAMER_` and the path with `__` between its parts, e.g. `STREAMER_PIPELINES__SENTIMENT__WORKERS`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from streamer.config.fields import CacheConfig, KafkaConfig, TelemetryConfig
from streamer.config.health import HealthConfig
from streamer.config.pipeline import PipelineConfig
from streamer.config.registry import SchemaRegistryConfig

KeyPath = tuple[str, ...]

PREFIX: Final = "STREAMER_"
SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "kafka": KafkaConfig,
    "schema_registry": SchemaRegistryConfig,
    "cache": CacheConfig,
    "telemetry": TelemetryConfig,
    "health": HealthConfig,
}
"""The tables that a configuration has once."""

# librdkafka properties whose names end in `.file` themselves: `_FILE` at their end is no indirection of ours.
_DOT_FILE: Final = frozenset(
    {
        "sasl.oauthbearer.assertion.file",
        "sasl.oauthbearer.assertion.jwt.template.file",
        "sasl.oauthbearer.assertion.private.key.file",
    }
)
# Kubernetes and Docker set these for every service whose name begins with `streamer`.
_SERVICE_LINK: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
_READ_ELSEWHERE: Final = ("STREAMER_CONSOLE_TOKEN", "STREAMER_TEST_")
_ALIKE: Final = 0.85


def path_of(variable: str, pipelines: Collection[str]) -> KeyPath:
    """The path that a variable sets. `pipelines` are the names that are known: of a variable's letters case and
    hyphens can't be told."""
    first, *rest = (part.lower() for part in variable.removeprefix(PREFIX).split("__"))
    if first == "kafka" and rest[0] == "properties":
        return (first, "properties", _property_name("_".join(rest[1:])))
    if first == "pipelines":
        rest[0] = next((name for name in pipelines if spelling(name) == rest[0]), rest[0])
    return (first, *rest)


def variable_of(path: KeyPath) -> str:
    """The variable that sets a path."""
    return PREFIX + "__".join(re.sub(r"[-.]", "_", part) for part in path).upper()


def spelling(pipeline: str) -> str:
    """How a variable writes a pipeline's name, in small letters."""
    return pipeline.lower().replace("-", "_")


def strays(environ: Mapping[str, str], pipelines: Collection[str]) -> Iterator[tuple[str, str]]:
    """Variables that begin like ours and have no path, each with the one that was probably meant, "" where none is
    near."""
    paths: list[KeyPath] = [(section, field) for section, kind in SECTIONS.items() for field in kind.__struct_fields__]
    paths += [("pipelines", name, field) for name in pipelines for field in PipelineConfig.__struct_fields__]
    by_spelling = {variable_of(path).replace("__", "_"): variable_of(path) for path in paths}
    # A field without its section: only names that are not anybody's, such as LOG_LEVEL.
    by_spelling |= {
        variable_of(path[1:]): variable_of(path) for path in paths if path[0] in SECTIONS and "_" in path[1]
    }
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" in name or name.startswith(_READ_ELSEWHERE):
            continue
        if _SERVICE_LINK.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, by_spelling, n=1, cutoff=_ALIKE)
        yield name, by_spelling[near[0]] if near else ""


def _property_name(variable: str) -> str:
    """`sasl_password_file` → `sasl.password_file`: dots for underscores, but for our own ending."""
    dotted = variable.replace("_", ".")
    if variable.endswith("_file") and dotted not in _DOT_FILE:
        return dotted.removesuffix(".file") + "_file"
    return dotted
