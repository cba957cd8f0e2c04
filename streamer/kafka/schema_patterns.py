"""The regular expressions of JSON Schemas, matched in linear time: Python's own would let one pattern, such as (a+)+$,
and one text hold the driver for years."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

_CHILDREN: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
"""Keywords whose value names schemas, by names that may be those of keywords."""
_DATA: Final = ("enum", "const", "default", "examples")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)


class PatternError(ValueError):
    """Where a schema has a pattern that is not matched, and why; what follows "the schema"."""


def refuse_patterns(schemas: Iterable[tuple[str, Any]]) -> None:
    """Raises PatternError for a pattern that can't be matched in linear time, in any of these schemas, each with its
    address."""
    found = [
        (f"{address}#/{place}", keyword, pattern) for address, one in schemas for place, keyword, pattern in _found(one)
    ]
    for place, _, pattern in found:
        try:
            _compiled(pattern)
        except ValueError as error:
            raise PatternError(
                f"has, at {place}, a regular expression that RE2 does not take ({error}): look-around, back references,"
                " repetitions over 1000 (maxLength has no limit) and long names in \\p{…} are to be said another way"
            ) from None
    unevaluated = next((place for place, keyword, _ in found if keyword == "unevaluatedProperties"), None)
    by_pattern = next((place for place, keyword, _ in found if keyword == "patternProperties"), None)
    if unevaluated and by_pattern:
        raise PatternError(
            f"has patternProperties at {by_pattern}, and unevaluatedProperties at {unevaluated}, which is not supported"
            " beside it: name the properties, or take additionalProperties"
        )


def _found(schema: Any, place: str = "", named: bool = False) -> Iterator[tuple[str, str, str]]:
    """Each place of a pattern, with its keyword and the pattern; and, without one, each place of
    unevaluatedProperties."""
    if isinstance(schema, list):
        for number, one in enumerate(schema):
            yield from _found(one, f"{place}{number}/")
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        here = f"{place}{key}"
        if named:
            yield from _found(value, f"{here}/")
            continue
        if key == "pattern" and isinstance(value, str):
            yield here, key, value
        elif key == "patternProperties" and isinstance(value, dict):
            yield from ((here, key, pattern) for pattern in value)
        elif key == "unevaluatedProperties":
            yield here, key, ""
        if key not in _DATA:
            yield from _found(value, f"{here}/", named=key in _CHILDREN)


@lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(_ESCAPE.sub(_translated, pattern), options=options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise ValueError(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from None


def _translated(escape: re.Match[str]) -> str:
    r"""ECMAScript's \u00e9 as RE2 writes it; other escapes as they are."""
    return rf"\x{{{escape[1]}}}" if escape[1] else escape[0]


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


@lru_cache
def linear(kind: Any) -> Any:
    """The class of validators `kind`, of jsonschema, with patterns matched so, in all that a schema refers to."""
    from jsonschema import validators

    own = {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional}
    made: Any = validators.extend(kind, {name: check for name, check in own.items() if name in kind.VALIDATORS})

    def evolve(self: Any, **changes: Any) -> Any:
        found = plain(self, **changes)
        other: Any = type(found)
        if other is made:
            return found
        # Of a part that names another draft.
        return linear(other)(found.schema, registry=found._registry, _resolver=found._resolver)

    plain = made.evolve
    made.evolve = evolve
    return made


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError("a string does not match its pattern")


def _pattern_properties(validator: Any, patterns: dict[str, Any], instance: Any, _: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        for pattern, part in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, part, path=name, schema_path=pattern)


def _additional(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in instance if name not in known and not any(_matches(one, name) for one in patterns)]
    if validator.is_type(allowed, "object"):
        for name in extra:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and extra:
        yield ValidationError("an additional property is not allowed")
