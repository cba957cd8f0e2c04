"""Change a value by a JSON merge patch (RFC 7396)."""

from __future__ import annotations

from typing import Any

import msgspec


def patched(value: bytes | None, patch: dict[str, Any]) -> bytes | None:
    """The value with the patch laid over it, byte for byte the same where that changes nothing; None when it is no JSON
    object, so that there is nothing to patch."""
    if value is None:
        return None
    try:
        target = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(target, dict):
        return None
    changed = msgspec.json.encode(merged(target, patch))
    return value if changed == msgspec.json.encode(target) else changed  # as values, true and 1 would be equal


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396's MergePatch: null removes a field, an object goes deeper, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
