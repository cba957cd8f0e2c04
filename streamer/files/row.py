"""A row of a file, and the event that is made of it. `Fields` says where its text, its id and what is passed through
stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from streamer.errors import DataFailure

EVENT_FIELDS: Final = ("id", "text_pair", "params", "metadata")


class Row(NamedTuple):
    """`value` is an event as a topic would have it; None where none can be made of the row, for its `failure`. `line`
    counts from 1 in its file; in a table it is the row, without the header."""

    value: bytes | None
    file: int
    line: int
    failure: DataFailure | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of columns, or paths of dots into JSON objects. `keep` are passed through to the result's `metadata`;
    "*" is all. `whole` rows go on as JSON objects, for whoever makes events of them."""

    text: str = ""
    id: str = ""
    keep: tuple[str, ...] = ()
    whole: bool = False

    @property
    def named(self) -> bool:
        """Whether any field is named."""
        return bool(self.text or self.id or self.keep)

    @property
    def asked(self) -> bool:
        """Whether events have to be made of JSON objects."""
        return self.named and not self.whole


def event_of(row: dict[str, Any], fields: Fields) -> bytes:
    """The event that a row makes: its text, id and what is kept; `text_pair` and `params` by their own names."""
    if fields.whole:
        return msgspec.json.encode({name: _plain(value) for name, value in row.items()}, enc_hook=str)
    event: dict[str, Any] = {name: row[name] for name in EVENT_FIELDS if row.get(name) not in (None, "")}
    text = at(row, fields.text or "text")
    if isinstance(text, bytes):  # Parquet that does not say that it is UTF-8; what is not is refused as an event
        refused: bytes = text
        try:
            text = refused.decode()
        except UnicodeDecodeError:
            return refused
    event["text"] = text
    if fields.id:
        event["id"] = _plain(at(row, fields.id))
    if fields.keep:
        names = [name for name in row if name != fields.text] if "*" in fields.keep else list(fields.keep)
        event["metadata"] = {name: _plain(at(row, name)) for name in names}
    return msgspec.json.encode(event, enc_hook=str)


def _plain(value: Any) -> Any:
    """Bytes as text, or as hexadecimal digits where they are none."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def at(row: dict[str, Any], path: str) -> Any:
    """A column of this name, else what stands at the path of dots; None where nothing does."""
    if path in row:
        return row[path]
    found: Any = row
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found
