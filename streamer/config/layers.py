"""File, environment and flags laid over one another, and where each value came from."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from streamer.config.fields import (
    PIPELINE_NAME,
    CacheConfig,
    Config,
    KafkaConfig,
    PipelineConfig,
    TelemetryConfig,
)
from streamer.errors import ConfigurationError

DEFAULT_PATH = Path("streamer.toml")
PREFIX = "STREAMER_"
# librdkafka properties whose names end in `.file` themselves: `_FILE` at their end is no indirection of ours.
_DOT_FILE = frozenset(
    {
        "sasl.oauthbearer.assertion.file",
        "sasl.oauthbearer.assertion.jwt.template.file",
        "sasl.oauthbearer.assertion.private.key.file",
    }
)

LISTS = ("input", "keep")
"""Fields of a pipeline where a single value may stand alone."""
KeyPath = tuple[str, ...]
_Section = TypeVar("_Section", bound=msgspec.Struct)


class Layers:
    """A tree of raw values, where each came from, and what is wrong with them."""

    def __init__(self, tree: dict[str, Any], source: str) -> None:
        self.tree = tree
        self.source = source
        self.problems: list[str] = []
        self._origins: dict[KeyPath, str] = {}

    @classmethod
    def from_file(cls, path: str | Path | None) -> Layers:
        """The TOML file as the lowest layer; the default path may be absent. Raises ConfigurationError."""
        file = Path(path) if path is not None else DEFAULT_PATH
        if path is None and not file.exists():
            return cls({}, f"{file} (absent)")
        try:
            return cls(tomllib.loads(file.read_text(encoding="utf-8")), str(file))
        except OSError as error:
            raise ConfigurationError(f"{file}: can't be read ({error.strerror}); name another with --config") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{file}: not UTF-8; save it as UTF-8 text") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{file}: not TOML: {error}") from None

    def put_environment(self, environ: Mapping[str, str]) -> None:
        """Lay the `STREAMER_…__…` variables over what is there."""
        for name, text in sorted(environ.items()):
            if name.startswith(PREFIX) and "__" in name:
                self._put(self._variable_path(name), text, f"environment variable {name}")

    def put_flags(self, overrides: Iterable[str]) -> None:
        """Lay `KEY.PATH=VALUE` texts over what is there."""
        for override in overrides:
            key, equals, text = override.partition("=")
            key = key.strip()
            if not equals:
                # What is no key may be a value, and secret.
                named = f"--set {key}" if re.fullmatch(r"[\w.-]+", key) else "--set"
                self.problems.append(f"{named}: no value; write --set KEY.PATH=VALUE")
                continue
            parts = tuple(key.split("."))
            if parts[:2] == ("kafka", "properties"):
                parts = ("kafka", "properties", ".".join(parts[2:]))
            if parts[2:3] != ("options",):  # a prompt's last space is part of it
                text = text.strip()
            self._put(parts, text, f"--set {key}")

    def origin(self, path: KeyPath) -> str:
        """`FILE: key.path`, or the variable or flag that set it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._origins:
                return self._origins[path[:length]]
        return f"{self.source}: {'.'.join(path)}"

    def build(self) -> Config:
        """The typed configuration. What is wrong is added to `problems` and left out."""
        sections = {
            "kafka": KafkaConfig,
            "cache": CacheConfig,
            "telemetry": TelemetryConfig,
        }
        self._known(self.tree, [*sections, "pipelines"], ())
        kafka = self._section(KafkaConfig, self.tree.get("kafka", {}), ("kafka",)) or KafkaConfig()
        cache = self._section(CacheConfig, self.tree.get("cache", {}), ("cache",)) or CacheConfig()
        telemetry = self._section(TelemetryConfig, self.tree.get("telemetry", {}), ("telemetry",)) or TelemetryConfig()
        pipelines = {
            name: pipeline
            for name, raw in self._table(self.tree.get("pipelines", {}), ("pipelines",)).items()
            if (pipeline := self._pipeline(name, raw)) is not None
        }
        return Config(
            kafka=self._with_property_files(kafka),
            cache=self._with_url_file(cache),
            telemetry=telemetry,
            pipelines=pipelines,
        )

    def _variable_path(self, name: str) -> KeyPath:
        first, *rest = (part.lower() for part in name.removeprefix(PREFIX).split("__"))
        if first == "kafka" and rest[0] == "properties":
            return (first, "properties", _property_name("_".join(rest[1:])))
        if first == "pipelines":
            known = self.tree.get("pipelines")
            names = known if isinstance(known, dict) else {}
            rest[0] = next(
                (each for each in names if each.lower().replace("-", "_") == rest[0]),
                rest[0],
            )
        return (first, *rest)

    def _put(self, path: KeyPath, text: str, origin: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:  # what the system hands over as bytes, Python keeps as lone surrogates
            self.problems.append(f"{origin}: the value is not UTF-8; write it as UTF-8 text")
            return
        node = self.tree
        for part in path[:-1]:
            inner = node.setdefault(part, {})
            if not isinstance(inner, dict):
                self.problems.append(f"{origin}: {part} is no table in {self.source}; remove one of the two")
                return
            node = inner
        node[path[-1]] = _parsed(path, text)
        self._origins[path] = origin

    def _pipeline(self, name: str, raw: Any) -> PipelineConfig | None:
        path = ("pipelines", name)
        if not re.match(PIPELINE_NAME, name):
            self._problem(
                path,
                "no name for a pipeline; use up to 100 letters, digits, - and _, the first no sign",
            )
            return None
        table = dict(self._table(raw, path))
        for field in LISTS:
            if isinstance(table.get(field), str):
                table[field] = [table[field]]
        if isinstance(table.get("start"), date):
            table["start"] = table["start"].isoformat()
        pipeline = self._section(PipelineConfig, table, path)
        if pipeline is None:
            return None
        return msgspec.structs.replace(
            pipeline,
            dead_letter=pipeline.dead_letter or f"{pipeline.output}.dlq",
            group=pipeline.group or f"streamer.{name}",
        )

    def _section(self, type_: type[_Section], raw: Any, path: KeyPath) -> _Section | None:
        """One struct, field by field, so that each problem has its key path."""
        before = len(self.problems)
        table = self._table(raw, path)
        fields = {field.name: field for field in msgspec.structs.fields(type_)}
        self._known(table, list(fields), path)
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name not in table:
                if field.required:
                    self._problem(
                        (*path, name),
                        f"missing; add `{name} = …`: {_description(field)}",
                    )
                continue
            try:
                values[name] = msgspec.convert(table[name], field.type, strict=(*path, name) not in self._origins)
            except msgspec.ValidationError as error:
                self._problem((*path, name), f"{_one_of(field) or error}. {_description(field)}")
        return type_(**values) if len(self.problems) == before else None

    def _known(self, table: Mapping[str, Any], names: list[str], path: KeyPath) -> None:
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                mend = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(names)}"
                self._problem((*path, key), f"unknown field; {mend}")

    def _table(self, raw: Any, path: KeyPath) -> Mapping[str, Any]:
        if isinstance(raw, dict):
            return raw
        self._problem(path, f"must be a table; write [{'.'.join(path)}]")
        return {}

    def _with_property_files(self, kafka: KafkaConfig) -> KafkaConfig:
        properties = dict(kafka.properties)
        for name, file in kafka.properties.items():
            if not name.endswith("_file"):
                continue
            path, target = ("kafka", "properties", name), name.removesuffix("_file")
            if target in kafka.properties:
                self._problem(path, f"{target} is set too; keep one of the two")
            properties[target] = self._secret(str(file), path)
            del properties[name]
        return msgspec.structs.replace(kafka, properties=properties)

    def _with_url_file(self, cache: CacheConfig) -> CacheConfig:
        if not cache.url_file:
            return cache
        if cache.url:
            self._problem(("cache", "url_file"), "cache.url is set too; keep one of the two")
        return msgspec.structs.replace(cache, url=self._secret(cache.url_file, ("cache", "url_file")))

    def _secret(self, file: str, path: KeyPath) -> str:
        """What a file holds. Only a name that can't be the secret itself, written in the wrong place, is quoted."""
        shown = file if file.startswith("/") and "://" not in file and "\0" not in file else "the file that it names"
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            self._problem(path, f"{shown} can't be read ({error.strerror}); name a file that this user may read")
        except UnicodeDecodeError:
            self._problem(path, f"{shown} is not UTF-8; save it as UTF-8 text")
        except ValueError:  # a NUL is in the name
            self._problem(path, "it is no name of a file; name a file that this user may read")
        return ""

    def _problem(self, path: KeyPath, text: str) -> None:
        self.problems.append(f"{self.origin(path)}: {text}")


def _property_name(variable: str) -> str:
    """`sasl_password_file` → `sasl.password_file`: dots for underscores, but for our own ending."""
    dotted = variable.replace("_", ".")
    if variable.endswith("_file") and dotted not in _DOT_FILE:
        return dotted.removesuffix(".file") + "_file"
    return dotted


def _parsed(path: KeyPath, text: str) -> Any:
    """A text from outside the file as the value that the field wants; numbers and booleans are converted later."""
    if len(path) == 3 and path[0] == "pipelines" and path[2] in LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    if len(path) >= 3 and path[0] == "pipelines" and path[2] == "options":
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _one_of(field: msgspec.structs.FieldInfo) -> str:
    """The values of a field that takes one of a few."""
    kinds = (field.type, *get_args(field.type))
    values = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
    return f"it must be one of {', '.join(map(json.dumps, values))}" if values else ""


def _description(field: msgspec.structs.FieldInfo) -> str:
    """What the field's `Meta` says that it is."""
    return next(
        (meta.description for meta in getattr(field.type, "__metadata__", ()) if meta.description),
        "",
    )
