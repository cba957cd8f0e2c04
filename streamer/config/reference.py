"""All fields of the configuration for people to look up: key, variable, type, default, and when to change it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from streamer.config.environment import SECTIONS, KeyPath, path_of, variable_of
from streamer.config.fields import Config
from streamer.config.health import HealthRuleConfig
from streamer.config.kinds import kind_of_field
from streamer.config.pipeline import PipelineConfig


class Field(NamedTuple):
    """One field; `default` is msgspec.NODEFAULT where it must be given. A table has no variable of its own: key and
    variable are then those of what stands in it, under a NAME."""

    name: str
    key: str
    variable: str
    kind: str
    default: Any
    about: str


def fields_of(table: KeyPath) -> list[Field]:
    """The fields of a table: a section, or a pipeline or a rule by its path."""
    kind = HealthRuleConfig if table[:2] == ("health", "rules") else SECTIONS.get(table[0], PipelineConfig)
    fields = msgspec.structs.fields(kind)
    return [_field((*table, field.name), field) for field in fields]


def _field(path: KeyPath, field: msgspec.structs.FieldInfo) -> Field:
    default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    if isinstance(default, dict):
        path = (*path, "NAME", "FIELD") if path == ("health", "rules") else (*path, "NAME")
    return Field(field.name, ".".join(path), variable_of(path), kind_of_field(field), default, about(field))


def settable(config: Config) -> list[Field]:
    """The fields that environment variables can set, of the pipelines and rules of a configuration; without any, of
    those called NAME."""
    pipelines = list(config.pipelines) or ["NAME"]
    rows = [field for section in SECTIONS for field in fields_of((section,)) if field.key != "health.rules.NAME.FIELD"]
    rows += [field for name in config.health.rules or ["NAME"] for field in fields_of(("health", "rules", name))]
    rows += [field for name in pipelines for field in fields_of(("pipelines", name))]
    # Letters that are not small, and hyphens, of a rule's name are lost in a variable.
    return [field for field in rows if _spelt(field.key, config) or "NAME" in field.key.split(".")]


def _spelt(key: str, config: Config) -> bool:
    path = tuple(key.split("."))
    return path_of(variable_of(path), list(config.pipelines)) == path


def about(field: msgspec.structs.FieldInfo) -> str:
    """What a field's `Meta` says that it is for."""
    metas = getattr(field.type, "__metadata__", ())
    return next((meta.description for meta in metas if meta.description), "")
