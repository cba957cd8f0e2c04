"""A pipeline that a caller in Python describes: a configured one, or a model by itself."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from streamer.app.fetch import fetch_model
from streamer.app.parts import encoder_of
from streamer.app.workers import pipeline_of
from streamer.config.checks import cross_check
from streamer.config.layers import Layers
from streamer.config.load import Config, PipelineConfig, load
from streamer.config.shapes import shape_of
from streamer.core.events.codec import Codec
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.errors import ConfigurationError, UsageError
from streamer.inference.models.presence import refuse_early
from streamer.inference.tasks.families import TASKS

NAME = "adhoc"
CUSTOM = "custom"
"""The task of a class that names none."""
CLOSE_S = 0.5
"""How long a worker has to end by itself: nobody is served by the batch that it is in."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration and the pipeline of it that is meant; `given` is a model of this process that serves in it."""

    config: Config
    name: str
    given: object = None

    @property
    def pipeline(self) -> PipelineConfig:
        return self.config.pipelines[self.name]

    @property
    def codec(self) -> Codec:
        """What reads its events."""
        return Codec(self.name, shape=shape_of(self.pipeline))

    def find_model(self) -> None:
        """Download it where it may be and is not here. Raises ModelError where it is not there, before any of the
        libraries that models need is imported."""
        if self.given is None:
            fetch_model(self.pipeline)
            refuse_early(self.pipeline.model, self.pipeline.adapter, self.pipeline.task)

    def encoder(self, limits: OutputLimits) -> Callable[[ModelCard], Encoder]:
        """What makes the encoder of the pipeline's outcomes, once the model is known."""
        return partial(encoder_of, self.config, self.name, limits=limits)


def plan_for(
    config_or_model: object,
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    pipeline: str | None = None,
    fields: Mapping[str, Any] = {},
) -> Plan:
    """The pipeline that is meant by a model reference, a class or an instance, the path of a streamer.toml, or a
    `Config`. `fields` are other fields of a pipeline.

    Raises UsageError and ConfigurationError, which name what is wrong.
    """
    config = _configured(config_or_model)
    if config is not None:
        if task is not None or options is not None or fields:
            raise UsageError("task, options and other fields are set by the configuration here: leave them out")
        name = pipeline or (next(iter(config.pipelines)) if len(config.pipelines) == 1 else None)
        if name is None:
            known = ", ".join(config.pipelines) or "none"
            raise UsageError(f"say which pipeline of the configuration with pipeline=…; it has: {known}")
        pipeline_of(config, name)
        return Plan(config, name)
    if pipeline is not None:
        raise UsageError("pipeline= names a pipeline of a configuration; a model by itself has none")
    model, given = _model(config_or_model)
    if task is None and given is None and not model.startswith("python:"):
        raise UsageError(f"say what the model does with task=…, one of {', '.join(TASKS)}")
    table = {"input": "events", "output": "results", **fields}
    table |= {"task": task or CUSTOM, "model": model, "options": dict(options or {})}
    layers = Layers({"pipelines": {NAME: table}}, "the arguments", Path.cwd())
    config = layers.build()
    for where, text in cross_check(config):
        layers.problem(where, text)
    if layers.problems:
        raise ConfigurationError.of(
            [dataclasses.replace(one, where=one.where.replace(f"pipelines.{NAME}.", "")) for one in layers.problems]
        )
    return Plan(config, NAME, given)


def _configured(what: object) -> Config | None:
    if isinstance(what, Config):
        return what
    if isinstance(what, str | Path) and str(what).endswith(".toml"):
        return load(what, os.environ)
    return None


def _model(what: object) -> tuple[str, object]:
    """A reference; of a class or an instance one that says where it is from, and itself."""
    if isinstance(what, str | Path):
        return str(what), None
    kind = what if isinstance(what, type) else type(what)
    if not callable(getattr(kind, "predict", None)):
        raise UsageError(
            f"{kind.__qualname__} is not a model: give a reference, a class with a method predict(inputs), an"
            " instance of one, or the path of a streamer.toml"
        )
    return f"python:{kind.__module__}:{kind.__name__}", what


def without_servers(config: Config) -> Config:
    """The same, with answers kept in memory alone."""
    return msgspec.structs.replace(config, cache=msgspec.structs.replace(config.cache, url=""))
