"""File, environment and flags laid over one another, and where each value came from."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streamer.config.environment import PREFIX, SECTIONS, KeyPath, path_of, spelling, strays, variable_of
from streamer.config.fields import PIPELINE_NAME, CacheConfig, Config, KafkaConfig, TelemetryConfig
from streamer.config.files import anchored, anchored_model, names_file
from streamer.config.health import HealthConfig, HealthRuleConfig
from streamer.config.kinds import kind_of_field
from streamer.config.pipeline import PipelineConfig
from streamer.config.reference import about
from streamer.config.registry import SchemaRegistryConfig
from streamer.errors import ConfigurationError, Refusal

DEFAULT_PATH = Path("streamer.toml")

LISTS = ("input", "keep")
"""Fields of a pipeline where a single value may stand alone."""
_VARIABLE = "environment variable "
_Section = TypeVar("_Section", bound=msgspec.Struct)


class Layers:
    """A tree of raw values, where each came from, and what is wrong with them."""

    def __init__(self, tree: dict[str, Any], source: str, folder: Path) -> None:
        self.tree = tree
        self.source = source
        self.problems: list[Refusal] = []
        self._folder = folder
        self._in_file = _names(tree)
        self._origins: dict[KeyPath, str] = {}
        self._made: dict[KeyPath, str] = {}  # tables that are not in the file

    @classmethod
    def from_file(cls, path: str | Path | None) -> Layers:
        """The TOML file as the lowest layer; the default path may be absent. Raises ConfigurationError."""
        file = Path(path) if path is not None else DEFAULT_PATH
        if path is None and not file.exists():
            return cls({}, f"{file} (absent)", Path.cwd())
        try:
            # A folder that is a link stays one: Kubernetes mounts files as links to where they are now.
            return cls(tomllib.loads(file.read_text(encoding="utf-8")), str(file), file.absolute().parent)
        except OSError as error:
            text = f"can't be read ({error.strerror}); name another with --config"
        except UnicodeDecodeError:
            text = "not UTF-8; save it as UTF-8 text"
        except tomllib.TOMLDecodeError as error:
            text = f"not TOML: {error}; correct it there (texts need quotes, tables a line [NAME])"
        raise ConfigurationError.of([Refusal.of(str(file), text)])

    def put_environment(self, environ: Mapping[str, str]) -> None:
        """Lay the `STREAMER_…__…` variables over what is there."""
        for name, text in sorted(environ.items()):
            if name.startswith(PREFIX) and "__" in name:
                self._put(path_of(name, self._in_file), text, f"{_VARIABLE}{name}")
        for name, near in strays(environ, self._in_file):
            if near:
                self.problems.append(Refusal.of(f"{_VARIABLE}{name}", f"nothing reads it; did you mean {near}?"))

    def put_flags(self, overrides: Iterable[str]) -> None:
        """Lay `KEY.PATH=VALUE` texts over what is there."""
        for override in overrides:
            key, equals, text = override.partition("=")
            key = key.strip()
            if not equals:
                # What is no key may be a value, and secret.
                named = f"--set {key}" if re.fullmatch(r"[\w.-]+", key) else "--set"
                self.problems.append(Refusal.of(named, "no value; write --set KEY.PATH=VALUE"))
                continue
            parts = tuple(key.split("."))
            if parts[:2] == ("kafka", "properties"):
                parts = ("kafka", "properties", ".".join(parts[2:]))
            if parts[2:3] != ("options",):  # a prompt's last space is part of it
                text = text.strip()
            self._put(parts, text, f"--set {key}")

    def origin(self, path: KeyPath) -> str:
        """`FILE: key.path`, or the variable or flag that set it. A variable of OpenTelemetry's stands for itself."""
        if path[0].startswith("OTEL_"):
            return f"{_VARIABLE}{path[0]}"
        for length in range(len(path), 0, -1):
            if path[:length] in self._origins:
                return self._origins[path[:length]]
        return self._made.get(path) or f"{self.source}: {'.'.join(path)}"

    def problem(self, path: KeyPath, text: str) -> None:
        """Note what is wrong at a path: what, a semicolon, and the fix."""
        self.problems.append(Refusal.of(self.origin(path), text))

    def build(self) -> Config:
        """The typed configuration. What is wrong is added to `problems` and left out."""
        self._known(self.tree, [*SECTIONS, "pipelines"], ())
        kafka = self._section(KafkaConfig, self.tree.get("kafka", {}), ("kafka",)) or KafkaConfig()
        cache = self._section(CacheConfig, self.tree.get("cache", {}), ("cache",)) or CacheConfig()
        registry = self._section(SchemaRegistryConfig, self.tree.get("schema_registry", {}), ("schema_registry",))
        telemetry = self._section(TelemetryConfig, self.tree.get("telemetry", {}), ("telemetry",))
        pipelines = {
            name: pipeline
            for name, raw in self._table(self.tree.get("pipelines", {}), ("pipelines",)).items()
            if (pipeline := self._pipeline(name, raw)) is not None
        }
        return Config(
            kafka=self._with_property_files(kafka),
            schema_registry=self._registry(registry or SchemaRegistryConfig()),
            cache=self._with_files(cache),
            # In place of a table that is wrong, one that nothing else can contradict.
            telemetry=telemetry or TelemetryConfig(spans="", reports="", http=""),
            health=self._health(),
            pipelines=pipelines,
        )

    def _put(self, path: KeyPath, text: str, origin: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:  # what the system hands over as bytes, Python keeps as lone surrogates
            self.problems.append(Refusal.of(origin, "the value is not UTF-8; write it as UTF-8 text"))
            return
        node = self.tree
        for place, part in enumerate(path[:-1], 1):
            if part not in node:
                node[part] = {}
                self._made[path[:place]] = origin
            inner = node[part]
            if not isinstance(inner, dict):
                self.problems.append(
                    Refusal.of(origin, f"{part} is not a table in {self.source}; remove one of the two")
                )
                return
            node = inner
        node[path[-1]] = _parsed(path, text)
        self._origins[path] = origin

    def _pipeline(self, name: str, raw: Any) -> PipelineConfig | None:
        path = ("pipelines", name)
        if not re.fullmatch(PIPELINE_NAME, name):
            self.problem(
                path,
                "no name for a pipeline; use up to 100 letters, digits, - and _, beginning with a letter or a digit",
            )
            return None
        table = dict(self._table(raw, path))
        if self._is_misspelt(name, table):
            return None
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
            model=anchored_model(pipeline.model, self._folder_of((*path, "model"))),
            adapter=pipeline.adapter and anchored_model(pipeline.adapter, self._folder_of((*path, "adapter"))),
            served_ca=anchored(pipeline.served_ca, self._folder_of((*path, "served_ca"))),
            dead_letter=pipeline.dead_letter or f"{pipeline.output}.dlq",
            group=pipeline.group or f"streamer.{name}",
        )

    def _is_misspelt(self, name: str, table: Mapping[str, Any]) -> bool:
        """Whether a variable or a flag speaks of a pipeline that is in no file, and does not say all of it."""
        path = ("pipelines", name)
        lacking = [
            field.name for field in msgspec.structs.fields(PipelineConfig) if field.required and field.name not in table
        ]
        if path not in self._made or not lacking:
            return False
        others = "" if not self._in_file else f"there are {', '.join(self._in_file)}; "
        if near := difflib.get_close_matches(spelling(name), map(spelling, self._in_file), n=1):
            others = f"did you mean {self._meant(path, near[0])}? Else "
        self.problem(path, f"{self.source} has no pipeline {name}; {others}add {', '.join(lacking)} to make one")
        return True

    def _meant(self, path: KeyPath, pipeline: str) -> str:
        """What was meant by a variable or flag of a pipeline that is spelled almost like this one."""
        name = next(other for other in self._in_file if spelling(other) == pipeline)
        origin = self._made[path]
        if not origin.startswith(_VARIABLE):
            return name
        return variable_of(("pipelines", name, *path_of(origin.removeprefix(_VARIABLE), ())[2:]))

    def _folder_of(self, path: KeyPath) -> Path:
        """What a name is relative to: the file's folder in the file, the working directory in a variable or a flag."""
        from_outside = any(path[:length] in self._origins for length in range(len(path) + 1))
        return Path() if from_outside else self._folder

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
                    self.problem(
                        (*path, name),
                        f"missing; add `{name} = …`: {about(field)}",
                    )
                continue
            given = table[name] if isinstance(table[name], list) else [table[name]]
            if any(isinstance(one, str) and one.endswith("\n") for one in given):  # which `$` of a pattern lets pass
                self.problem((*path, name), "it ends with a line break; remove it")
                continue
            try:
                values[name] = msgspec.convert(table[name], field.type, strict=(*path, name) not in self._origins)
            except msgspec.ValidationError as error:
                quoted = " without quotes" if str(error).endswith(("`int`, got `str`", "`bool`, got `str`")) else ""
                told = f"it must be {kind_of_field(field)}{quoted}. {about(field)}"
                self.problems.append(Refusal(self.origin((*path, name)), told))
        return type_(**values) if len(self.problems) == before else None

    def _known(self, table: Mapping[str, Any], names: list[str], path: KeyPath) -> None:
        for key in table:
            if key not in names:
                self.problem((*path, key), f"unknown field; {self._nearest(key, names, path)}")

    def _nearest(self, key: str, names: list[str], path: KeyPath) -> str:
        """What to write in place of an unknown field."""
        origin = self.origin((*path, key))
        if near := difflib.get_close_matches(key, names, n=1):
            if origin.startswith(_VARIABLE):
                rest = path_of(origin.removeprefix(_VARIABLE), self._in_file)[len(path) + 1 :]
                return f"did you mean {variable_of((*path, near[0], *rest))}?"
            return f"did you mean {json.dumps(near[0])}?"
        places: dict[str, type[msgspec.Struct]] = {**SECTIONS, "pipelines.NAME": PipelineConfig}
        homes = [f"{table}.{key}" for table, kind in places.items() if key in kind.__struct_fields__]
        if homes and not path:
            return f"did you mean {' or '.join(homes)}?"
        return f"known are {', '.join(names)}"

    def _table(self, raw: Any, path: KeyPath) -> Mapping[str, Any]:
        if isinstance(raw, dict):
            return raw
        self.problem(path, f"must be a table; write [{'.'.join(path)}]")
        return {}

    def _with_property_files(self, kafka: KafkaConfig) -> KafkaConfig:
        properties = dict(kafka.properties)
        for name, value in kafka.properties.items():
            path, target = ("kafka", "properties", name), name.removesuffix("_file")
            if target == name:
                if names_file(name) and isinstance(value, str):
                    properties[name] = anchored(value, self._folder_of(path))
                continue
            if target in kafka.properties:
                self.problem(path, f"{target} is set too; keep one of the two")
            properties[target] = self._secret(str(value), path)
            del properties[name]
        return msgspec.structs.replace(kafka, properties=properties)

    def _with_files(self, cache: CacheConfig) -> CacheConfig:
        cache = msgspec.structs.replace(
            cache, key_file=anchored(cache.key_file, self._folder_of(("cache", "key_file")))
        )
        if not cache.url_file:
            return cache
        if cache.url:
            self.problem(("cache", "url_file"), "cache.url is set too; keep one of the two")
        return msgspec.structs.replace(cache, url=self._secret(cache.url_file, ("cache", "url_file")))

    def _registry(self, registry: SchemaRegistryConfig) -> SchemaRegistryConfig:
        section = "schema_registry"
        files = {
            field: anchored(getattr(registry, field), self._folder_of((section, field)))
            for field in ("ca_file", "certificate_file", "key_file")
        }
        registry = msgspec.structs.replace(registry, **files)
        if not registry.password_file:
            return registry
        if registry.password:
            self.problem((section, "password_file"), "schema_registry.password is set too; keep one of the two")
        password = self._secret(registry.password_file, (section, "password_file"))
        return msgspec.structs.replace(registry, password=password)

    def _health(self) -> HealthConfig:
        table = dict(self._table(self.tree.get("health", {}), ("health",)))
        rules = {
            name: rule
            for name, raw in self._table(table.pop("rules", {}), ("health", "rules")).items()
            if (rule := self._section(HealthRuleConfig, raw, ("health", "rules", name))) is not None
        }
        health = self._section(HealthConfig, table, ("health",)) or HealthConfig(feedback="", http="")
        health = msgspec.structs.replace(health, rules=rules)
        if not health.webhook_file:
            return health
        if health.webhook:
            self.problem(("health", "webhook_file"), "health.webhook is set too; keep one of the two")
        return msgspec.structs.replace(health, webhook=self._secret(health.webhook_file, ("health", "webhook_file")))

    def _secret(self, file: str, path: KeyPath) -> str:
        """What a file holds. Only a name that can't be the secret itself, written in the wrong place, is quoted."""
        folder = self._folder_of(path)
        absolute = file.startswith("/") and "://" not in file and "\0" not in file
        shown = file if absolute else f"the file that it names (below {folder.absolute()})"
        try:
            return Path(anchored(file, folder)).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            self.problem(path, f"{shown} can't be read ({error.strerror}); name a file that this user may read")
        except UnicodeDecodeError:
            self.problem(path, f"{shown} is not UTF-8; save it as UTF-8 text")
        except ValueError:  # a NUL is in the name
            self.problem(path, "it is not a file name; name a file that this user may read")
        return ""


def _names(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """The pipelines of a file."""
    table = tree.get("pipelines")
    return tuple(table) if isinstance(table, dict) else ()


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
