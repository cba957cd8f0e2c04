"""Cache keys: two inputs share a key exactly when the same model, asked the same way, must give the same answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import TextEvent

KEY_BYTES: Final = 32

# A field is its tag, its length (8 bytes, big endian) and its bytes. An absent field is left out, so that the tags
# tell it from an empty one, and no shift of bytes from one field to the next gives the same input to the hash.
_FORMAT, _REVISION, _TASK, _OPTIONS = b"F", b"R", b"T", b"O"
_DTYPE, _BACKEND, _DEVICE, _IMPLEMENTATION = b"D", b"B", b"C", b"I"
_PARAMS, _PAIR, _TEXT = b"p", b"q", b"t"


class Fingerprinter:
    """Makes the cache keys of one model, served one way.

    `settings` is all that the pipeline's configuration says of the answers, as TOML gives it. The card adds the rest:
    the digest of everything that the model was read from, its task, dtype and backend, the kind of its device, and what
    computes. The model's name is not among it: where files lie changes no answer. These are hashed once; a record costs
    a copy of the hash's state: 0.6 µs for a text of 100 bytes without params, 2.0 µs with params and pair.
    """

    def __init__(self, card: ModelCard, settings: dict[str, Any]) -> None:
        constant = (
            _field(_FORMAT, b"2")
            + _field(_REVISION, card.revision.encode())
            + _field(_TASK, card.task.encode())
            + _field(_OPTIONS, repr(_typed(settings)).encode("utf-8", "surrogatepass"))
            + _field(_DTYPE, card.dtype.encode())
            + _field(_BACKEND, card.backend.encode())
            + _field(_DEVICE, card.device_kind.encode())
            + _field(_IMPLEMENTATION, card.implementation.encode())
        )
        self._state = hashlib.sha256(constant)

    def keys(self, events: Iterable[TextEvent]) -> list[bytes]:
        """One key of 32 bytes an event, in their order: SHA-256 over the constant fields, params, pair and text.

        The event's id and metadata are not part of it: they do not reach the model.
        """
        copy = self._state.copy
        keys = []
        for event in events:
            state = copy()
            # A lone surrogate can't come out of valid JSON; should one arrive, it still has bytes of its own.
            text = event.text.encode("utf-8", "surrogatepass")
            size = len(text)
            fields = (_TEXT_STARTS[size] if size < len(_TEXT_STARTS) else _start(_TEXT, size)) + text
            if event.text_pair is not None:
                fields = _field(_PAIR, event.text_pair.encode("utf-8", "surrogatepass")) + fields
            if event.params is not None:
                fields = _field(_PARAMS, _canonical(event.params)) + fields
            state.update(fields)
            keys.append(state.digest())
        return keys


def _start(tag: bytes, size: int) -> bytes:
    return tag + size.to_bytes(8, "big")


def _field(tag: bytes, value: bytes) -> bytes:
    return _start(tag, len(value)) + value


_TEXT_STARTS: Final = tuple(_start(_TEXT, size) for size in range(1024))


def _canonical(value: dict[str, Any]) -> bytes:
    """JSON with the keys sorted at every depth, without white space."""
    return msgspec.json.encode(value, order="deterministic")


def _typed(value: Any) -> Any:
    """TOML has values that JSON writes alike: infinities and NaN as null, a date as its text."""
    if isinstance(value, dict):
        return "table", sorted((key, _typed(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return "list", [_typed(inner) for inner in value]
    return type(value).__name__, repr(value)
