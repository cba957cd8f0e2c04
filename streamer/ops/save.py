"""Records of a topic as lines of JSON, and as rows of a table: results, dead letters, and what is neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from streamer.core.deadletters.envelope import unwrap
from streamer.core.deadletters.families import read
from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.lines import line_of, wire
from streamer.core.deadletters.replay import event_id
from streamer.core.events.codec import Reading
from streamer.core.headers import CE_TYPE
from streamer.core.record import BareRecord, Headers, Record
from streamer.core.results.encoder import RESULT_TYPE
from streamer.files.tables import flat

EXAMPLES: Final = 5
_REFUSED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(slots=True)
class Lines:
    """Makes the lines, one a record, and counts what they are. `readings` say how pipelines read events.
    `plain` makes JSON of a result, whatever its format.
    With `show_text` dead letters carry the record's value.

    `unreadable` are the places of results that are none, whose bytes are saved as they are.
    """

    readings: Mapping[str, Reading]
    show_text: bool
    plain: Callable[[Record], bytes] = lambda record: record.value() or b""
    results: int = 0
    dead_letters: int = 0
    others: int = 0
    unreadable: list[Place] = field(default_factory=list)

    def line(self, record: Record, headers: Headers | None) -> bytes:
        """The record's line, without its end."""
        if headers is None:
            record, headers = BareRecord(record), []
        if unwrap(headers) is not None:
            self.dead_letters += 1
            return msgspec.json.encode(self._dead_letter(record, headers))
        if dict(headers).get(CE_TYPE) == RESULT_TYPE.encode():
            try:
                # On one line, whatever white space a producer wrote in its metadata; all else as it is.
                line = msgspec.json.format(self.plain(record), indent=-1)
                msgspec.json.decode(line, type=_Result)
            except _REFUSED:
                self.unreadable.append(Place(record.topic(), record.partition(), record.offset()))
            else:
                self.results += 1
                return line
        self.others += 1
        return line_of(record, headers)

    def _dead_letter(self, record: Record, headers: Headers) -> dict[str, Any]:
        reason = read(dict(headers))
        letter = DeadLetter(record, headers, reason, self.readings.get(reason.pipeline or ""))
        error = {"code": reason.code, "message": reason.message, "exception": reason.exception}
        found: dict[str, Any] = {
            "id": event_id(letter),
            "pipeline": reason.pipeline,
            "error": {**error, "attempts": reason.attempts},
            "source": {"topic": reason.topic, "partition": reason.partition, "offset": reason.offset},
            "record": _place(record),
        }
        return {**found, "value": wire(record.value())} if self.show_text else found


def row_of(line: bytes) -> dict[str, Any]:
    """A line as columns: id, place of the input record (its own for what is neither result nor dead letter), then those
    of `streamer infer`."""
    found = msgspec.json.decode(line)
    place = found.get("source", found)
    row = {name: found[name] for name in ("id",) if name in found}
    row |= {name: place[name] for name in ("topic", "partition", "offset")}
    row |= {name: found[name] for name in ("timestamp_ms", "key", "headers", "value") if name in found}
    return row | flat(line)


class _Source(msgspec.Struct):
    topic: str
    partition: int
    offset: int


class _Result(msgspec.Struct):
    id: str
    source: _Source
    output: msgspec.Raw


def _place(record: Record) -> dict[str, Any]:
    return {"topic": record.topic(), "partition": record.partition(), "offset": record.offset()}
