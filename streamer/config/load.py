"""The configuration: what everything else imports of it.

`load` puts three layers over one another, the later ones winning:

1. one TOML file, ./streamer.toml when no other is named;
2. environment variables: `STREAMER_` and the path with `__` between its parts, e.g. `STREAMER_KAFKA__BOOTSTRAP_SERVERS`
   or `STREAMER_PIPELINES__SENTIMENT__WORKERS`. A pipeline's name is matched without regard to case, `_` standing for
   `-` too. In `STREAMER_KAFKA__PROPERTIES__SASL_PASSWORD` each `_` stands for a dot (`sasl.password`), except in an
   ending `_FILE` (`SASL_PASSWORD_FILE` is `sasl.password_file`);
3. flags: `--set pipelines.sentiment.workers=2`.

In the last two a list is written with commas, and an option of a task as in TOML (`5`, `true`, `["a", "b"]`) or, when
it is no TOML, as plain text. Names of files and of models' directories are relative to the TOML file's own folder where
they stand in it, and to the working directory in variables and flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from streamer.config.checks import cross_check
from streamer.config.fields import CacheConfig, Config, KafkaConfig, TelemetryConfig
from streamer.config.layers import LISTS, Layers
from streamer.config.pipeline import PipelineConfig, start_time_ms
from streamer.config.problems import Problem
from streamer.config.properties import redacted
from streamer.config.url import redacted_url
from streamer.errors import ConfigurationError

__all__ = [
    "CacheConfig",
    "Config",
    "KafkaConfig",
    "PipelineConfig",
    "Problem",
    "TelemetryConfig",
    "json_schema",
    "load",
    "redacted",
    "redacted_url",
    "start_time_ms",
]


def load(
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
    check: Callable[[Config], Iterable[Problem]] = lambda _: (),
) -> Config:
    """Read, merge and check the configuration.

    `path` None takes ./streamer.toml where there is one, and defaults otherwise. `environ` is usually `os.environ`;
    `overrides` are `KEY.PATH=VALUE` texts; `check` tells what else is wrong with the whole. In the result
    `dead_letter`, `group` and the values of `*_file` fields are filled in. Raises ConfigurationError with everything
    that is wrong: where, what, and how to fix it.
    """
    layers = Layers.from_file(path)
    layers.put_environment(environ or {})
    layers.put_flags(overrides)
    config = layers.build()
    for where, text in chain(cross_check(config), check(config)):
        layers.problem(where, text)
    if layers.problems:
        raise ConfigurationError.of(layers.problems)
    return config


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the TOML file, generated from the types."""
    schema = msgspec.json.schema(Config)
    pipeline = schema["$defs"]["PipelineConfig"]["properties"]
    for field in LISTS:
        several = pipeline[field]
        pipeline[field] = {
            "description": several.pop("description"),
            **({"default": several.pop("default")} if "default" in several else {}),
            "anyOf": [several, several["items"]],
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamer.toml",
        **schema,
    }
