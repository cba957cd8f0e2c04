"""Events that others have shaped: where the text, the id and what is passed through stand in JSON objects of any kind.

One level of JSON is read at a time, its values raw; only what a path names is decoded, and all else is passed over as
unknown fields of an event are.

Debezium's envelope: https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events.
Kafka Connect's JsonConverter writes `{"schema", "payload"}` with `schemas.enable=true`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from streamer.core.events.diagnosis import MAX_ID_CHARS, not_an_object
from streamer.core.record import Skipped, TextEvent
from streamer.errors import Code, DataFailure

MAX_METADATA_BYTES: Final = 8 * 1024
INT64_MIN, UINT64_MAX = -(2**63), 2**64 - 1
REFUSED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

TOMBSTONE: Final = Skipped("tombstone")
_NO_ROW: Final = {b'"d"': Skipped("delete"), b'"t"': Skipped("truncate"), b'"m"': Skipped("message")}
_WITH_ROW: Final = (b'"c"', b'"u"', b'"r"')

Envelope = Literal["none", "connect", "debezium"]
_Level = dict[str, msgspec.Raw]

_level = msgspec.json.Decoder(_Level).decode
_string = msgspec.json.Decoder(str).decode
_id = msgspec.json.Decoder(str | int).decode
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Path:
    """A field of this name, else what stands at the path that its dots make."""

    name: str
    steps: tuple[str, ...]

    @classmethod
    def of(cls, name: str) -> Path:
        """The path that a configuration writes as `name`."""
        return cls(name, tuple(name.split(".")))

    def find(self, row: _Level) -> msgspec.Raw | None:
        """What stands there, undecoded; None where nothing does."""
        found = row.get(self.name)
        if found is not None or len(self.steps) == 1:
            return found
        for step in self.steps[:-1]:
            inner = row.get(step)
            if inner is None:
                return None
            try:
                row = _level(inner)
            except REFUSED:
                return None
        return row.get(self.steps[-1])

    def why_not(self, row: _Level, where: str) -> str:
        """Which step of it leads nowhere, or to null."""
        if self.name in row:
            return f"{where}.{self.name} is null, not a string"
        for step in self.steps[:-1]:
            where = f"{where}.{step}"
            inner = row.get(step)
            if inner is None:
                return f"{where} is missing"
            try:
                row = _level(inner)
            except REFUSED:
                return f"{where} is {kind_of(inner)}, not an object"
        last = self.steps[-1]
        return f"{where}.{last} is null, not a string" if last in row else f"{where}.{last} is missing"


@dataclass(frozen=True, slots=True)
class Shape:
    """Paths into the value, or into the row that an envelope holds; only these fields are read. `keep` become the
    event's metadata under their own names, null where nothing stands there; "*" is every field of the row but the text.
    A second text or an id that is missing or null is none, as in events of our own format.
    """

    text: Path
    text_pair: Path | None = None
    id: Path | None = None
    keep: tuple[Path, ...] = ()
    envelope: Envelope = "none"

    def read(self, value: bytes, where: str = "$") -> TextEvent | DataFailure | Skipped:
        """The event in a value; `where` is the value's path in the record."""
        opened = self._row(value, where)
        if not isinstance(opened, tuple):
            return opened
        row, where = opened
        text = _string_at(self.text, row, where, Code.VALIDATE_TEXT)
        if text is None:
            hint = _hint(row) if self.envelope == "none" else ""
            return DataFailure(Code.VALIDATE_TEXT, f"{self.text.why_not(row, where)}{hint}.")
        if isinstance(text, DataFailure):
            return text
        if not text:
            return DataFailure(
                Code.VALIDATE_EMPTY_TEXT, f"{where}.{self.text.name} is an empty string: white space would be valid."
            )
        pair = None if self.text_pair is None else _string_at(self.text_pair, row, where, Code.VALIDATE_TEXT_PAIR)
        if isinstance(pair, DataFailure):
            return pair
        given_id = None if self.id is None else _id_of(self.id, row, where)
        if isinstance(given_id, DataFailure):
            return given_id
        if not self.keep:
            return TextEvent(text, given_id, pair)
        metadata = self._kept(row)
        if len(metadata) > MAX_METADATA_BYTES:
            return DataFailure(
                Code.VALIDATE_METADATA,
                f"The fields of `keep` have {len(metadata)} bytes, the limit is {MAX_METADATA_BYTES}: keep less.",
            )
        return TextEvent(text, given_id, pair, None, msgspec.Raw(metadata))

    def read_id(self, value: bytes) -> str | int | None:
        """The id in a value, also where the rest of it is no event."""
        opened = self._row(value, "$")
        found = _id_of(self.id, *opened) if self.id is not None and isinstance(opened, tuple) else None
        return None if isinstance(found, DataFailure) else found

    def _row(self, value: bytes, where: str) -> tuple[_Level, str] | DataFailure | Skipped:
        """The row that paths start in, and its own path."""
        try:
            value.isascii() or value.decode()  # msgspec passes over raw values without checking UTF-8
            row = _level(value)
        except REFUSED:
            return not_an_object(value, where)
        return (row, where) if self.envelope == "none" else _opened(row, where, self.envelope)

    def _kept(self, row: _Level) -> bytes:
        """The metadata: raw values under the names that the configuration gives them."""
        kept: dict[str, msgspec.Raw | None] = {}
        for path in self.keep:
            if path.name == "*":
                kept |= row
                kept.pop(self.text.name, None)
            else:
                kept[path.name] = path.find(row)
        return _encode(kept)


def kind_of(raw: msgspec.Raw) -> str:
    """The JSON name of a raw value's type."""
    kinds = {b'"': "a string", b"{": "an object", b"[": "an array", b"t": "a boolean", b"f": "a boolean", b"n": "null"}
    return kinds.get(bytes(raw)[:1], "a number")


def _string_at(path: Path, row: _Level, where: str, code: Code) -> str | DataFailure | None:
    """The string at a path; None where nothing, or null, stands there."""
    found = path.find(row)
    if found is None:
        return None
    try:
        return _string(found)
    except REFUSED:
        if bytes(found) == b"null":
            return None
        return DataFailure(code, f"{where}.{path.name} is {kind_of(found)}, not a string.")


def _id_of(path: Path, row: _Level, where: str) -> str | int | DataFailure | None:
    found = path.find(row)
    if found is None or bytes(found) == b"null":
        return None
    try:
        given_id: str | int = _id(found)
    except REFUSED:
        return DataFailure(
            Code.VALIDATE_ID, f"{where}.{path.name} is {kind_of(found)}, not a string or an integer of 64 bits."
        )
    if isinstance(given_id, int):
        if INT64_MIN <= given_id <= UINT64_MAX:
            return given_id
        return DataFailure(
            Code.VALIDATE_ID, f"{where}.{path.name} is an integer of more than 64 bits: send it as a string."
        )
    if 1 <= len(given_id) <= MAX_ID_CHARS:
        return given_id
    return DataFailure(
        Code.VALIDATE_ID, f"{where}.{path.name} has {len(given_id)} characters, not 1 to {MAX_ID_CHARS}."
    )


def _opened(row: _Level, where: str, envelope: Envelope) -> tuple[_Level, str] | DataFailure | Skipped:
    """The row inside an envelope and its path; why there is none."""
    if envelope == "connect" or ("payload" in row and "op" not in row):
        inside = _inside(row, where, "payload", "what JsonConverter writes with schemas.enable=true")
        if not isinstance(inside, tuple):
            return inside
        row, where = inside
    if envelope == "connect":
        return row, where
    operation = row.get("op")
    if operation is None:
        return DataFailure(Code.VALIDATE_TYPE, f"{where}.op is missing: this is not a change event of Debezium.")
    skipped = _NO_ROW.get(bytes(operation))
    if skipped is not None:
        return skipped
    if bytes(operation) not in _WITH_ROW:
        return DataFailure(Code.VALIDATE_TYPE, f"{where}.op is not c, u, r, d, t or m, which Debezium writes.")
    return _inside(row, where, "after", "a change event of Debezium's", null_is_none=False)


def _inside(
    row: _Level, where: str, name: str, what: str, *, null_is_none: bool = True
) -> tuple[_Level, str] | DataFailure | Skipped:
    inner, where = row.get(name), f"{where}.{name}"
    if inner is None:
        return DataFailure(Code.VALIDATE_TYPE, f"{where} is missing: it is not {what}.")
    if null_is_none and bytes(inner) == b"null":  # how Connect writes a tombstone with a schema
        return TOMBSTONE
    try:
        return _level(inner), where
    except REFUSED:
        kind = kind_of(inner)
        flat = (
            ", as the MongoDB connector writes it: flatten it with ExtractNewDocumentState"
            if (name, kind) == ("after", "a string")
            else ""
        )
        return DataFailure(Code.VALIDATE_TYPE, f"{where} is {kind}, not an object{flat}.")


def _hint(row: _Level) -> str:
    """What the value looks like, where that is another envelope than the configuration says."""
    if row.keys() == {"schema", "payload"}:
        return '; the value looks like Kafka Connect\'s: set envelope = "connect", or "debezium" for a change event'
    if {"after", "op", "source"} <= row.keys():
        return '; the value looks like a change event of Debezium\'s: set envelope = "debezium"'
    return ""
