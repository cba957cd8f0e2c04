"""All fields of the configuration for people to look up: key, variable, type, default, and when to change it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from streamer.config.environment import SECTIONS, KeyPath, variable_of
from streamer.config.health import HealthRuleConfig
from streamer.config.kinds import kind_of_field
from streamer.config.pipeline import PipelineConfig


class Field(NamedTuple):
    """One field; `default` is msgspec.NODEFAULT where it must be given."""

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
    return Field(".".join(path), variable_of(path), kind_of_field(field), default, about(field))


def about(field: msgspec.structs.FieldInfo) -> str:
    """What a field's `Meta` says that it is for."""
    metas = getattr(field.type, "__metadata__", ())
    return next((meta.description for meta in metas if meta.description), "")
