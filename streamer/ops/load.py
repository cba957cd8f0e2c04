"""Rows of files into a topic, each once: a chunk of rows goes in one transaction with how far the files are done.

How far is an offset of a consumer group that nobody joins, `streamer.load.{topic}.{job}`, with a digest of all rows so
far. So a load that was killed goes on where it was, and one whose files or options changed there is refused.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from streamer.core.events.codec import Codec
from streamer.core.events.diagnosis import not_an_object
from streamer.core.events.shape import Shape
from streamer.core.foreign import read_own
from streamer.core.output import Output, size_bytes
from streamer.core.record import Segment, TopicPartition
from streamer.errors import Code, DataFailure, ExitCode, StreamerError, UsageError
from streamer.files.line import Line
from streamer.files.row import Fields, Row, at, event_of
from streamer.files.rows import Format, Rows

CHUNK_ROWS: Final = 2_000
CHUNK_BYTES: Final = 4 << 20
PACE_S: Final = 0.5
"""How much of a paced load goes in one transaction."""
_DIGEST_BYTES: Final = 16
_EMPTY: Final[dict[Format, tuple[bytes, ...]]] = {"jsonl": (b"",), "text": (b'{"text":""}',), "csv": (), "parquet": ()}
"""Rows that are no more than an empty line, by the kind of file."""


class BadRowError(StreamerError):
    """A row can't be an event, and nobody said that such rows may be left out."""

    exit_code = ExitCode.SOME_FAILED


class Position(msgspec.Struct, frozen=True):
    """How far a job is: the number of rows is the offset, and this its metadata."""

    digest: str
    failed: int = 0
    errors_bytes: int = 0


_decode_position = msgspec.json.Decoder(Position).decode


class Copier(Protocol):
    """Writes records and an offset in one transaction."""

    def settle(self, outputs: Sequence[Output], partition: TopicPartition, mark: tuple[int, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes records of whole rows: events where `fields` ask for it, else the row as it is. `key` names the column or
    path of the record's key. What a pipeline with one of the `shapes` would refuse is refused here; with none of them
    any JSON object will do. `limit_bytes` is what the topic takes."""

    topic: str
    fields: Fields
    events: bool
    key: str
    shapes: tuple[Shape | None, ...]
    limit_bytes: int

    def make(self, rows: Sequence[Row]) -> list[Output | DataFailure]:
        """A record of each row, or why there is none."""
        found = [self._output(row) for row in rows]
        for shape in self.shapes:
            numbers = [number for number, each in enumerate(found) if not isinstance(each, DataFailure)]
            lines: list[Any] = [Line(Row(found[number][3], 0, 0), number, 0) for number in numbers]  # type: ignore[index]
            segment = Segment(self.topic, 0, 0, lines)
            Codec("", shape=shape).decode(segment)
            for number, outcome in zip(numbers, segment.outcomes, strict=True):
                if isinstance(outcome, DataFailure):
                    found[number] = outcome
        return found

    def _output(self, row: Row) -> Output | DataFailure:
        value, key = row.value, None
        if row.failure is not None:
            return row.failure
        if not value:
            return DataFailure(Code.DECODE_EMPTY, "It is empty.")
        if self.events or self.key or not self.shapes:
            columns = read_own(msgspec.json.decode, value)
            if not isinstance(columns, dict):
                return not_an_object(value)
            if self.key:
                found = at(columns, self.key)
                if found is None:
                    return DataFailure(Code.VALIDATE_TYPE, f"It has no {self.key}, which --key-field names.")
                key = found.encode() if isinstance(found, str) else msgspec.json.encode(found)
            if self.events:
                value = event_of(columns, self.fields)
        size = size_bytes(key, value, [])
        if size > self.limit_bytes:
            return DataFailure(
                Code.VALIDATE_TOO_LARGE, f"Its record has {size} bytes; {self.topic} takes {self.limit_bytes}."
            )
        return self.topic, -1, key, value, []


@dataclass(slots=True)
class Load:
    """One job over `files` of these `kinds`. `options` is what else has to be the same for it to go on.

    `rows` counts rows of the files by now, `before` those of earlier runs, `written` the records of this one; `failed`
    ones are bad rows, `empty` ones lines without anything. Rows that fail go to `errors`, or end the job.
    """

    files: Sequence[str]
    kinds: Sequence[Format]
    source: Rows
    maker: Maker
    options: str
    errors: Path | None = None
    rate: float | None = None
    rows: int = 0
    before: int = 0
    written: int = 0
    failed: int = 0
    empty: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    _errors: BinaryIO | None = None
    _digest: Any = None

    def begin(self, mark: tuple[int, str]) -> None:
        """Go on behind a position. Raises UsageError where the rows before it are others now, or `errors` exists
        although nothing was done yet."""
        self._digest = hashlib.blake2b(self.options.encode(), digest_size=_DIGEST_BYTES)
        rows, metadata = mark
        position = Position("")
        if rows > 0:
            # Somebody else's offset is none of ours: no digest fits it.
            position = read_own(_decode_position, metadata.encode()) or position
            while self.rows < rows and (some := self.source.read(rows - self.rows, CHUNK_BYTES)):
                self._note(some)
            if self._digest.hexdigest() != position.digest:
                raise UsageError(
                    f"the first {rows:,} rows are not those that were loaded before: the files or options changed. Use"
                    " the earlier ones to continue, or --restart to load all rows again, as new records"
                )
        elif self.errors is not None and self.errors.exists():
            raise UsageError(f"{self.errors} exists already: name another file with --errors")
        self.before, self.failed = self.rows, position.failed
        if self.errors is not None:
            self._errors = self.errors.open("r+b" if self.errors.exists() else "w+b")
            self._errors.truncate(position.errors_bytes)
            self._errors.seek(0, 2)

    def run(self, copier: Copier, progress: Callable[[Load], None], partition: TopicPartition) -> None:
        """Load all rows, or those until `stop` is set. Raises BadRowError behind the last good row, and what the copier
        raises; what is loaded then is noted."""
        due = time.monotonic()
        while not self.stop.is_set() and (rows := self._chunk()):
            bad = self._load(rows, copier, partition)
            progress(self)
            if bad is not None:
                raise BadRowError(bad)
            if self.rate is not None:
                due += len(rows) / self.rate
                self.stop.wait(max(0.0, due - time.monotonic()))

    def close(self) -> None:
        """Close the file of errors."""
        if self._errors is not None:
            self._errors.close()

    def _chunk(self) -> list[Row]:
        most = CHUNK_ROWS if self.rate is None else max(1, min(CHUNK_ROWS, int(self.rate * PACE_S)))
        return self.source.read(most, CHUNK_BYTES)

    def _load(self, rows: Sequence[Row], copier: Copier, partition: TopicPartition) -> str | None:
        """Write a chunk; says what ends the job."""
        outputs: list[Output] = []
        failures: Counter[str] = Counter()
        lines: list[bytes] = []
        bad: str | None = None
        done = empty = 0
        for row, made in zip(rows, self.maker.make(rows), strict=True):
            if isinstance(made, DataFailure):
                if row.value in _EMPTY[self.kinds[row.file]]:
                    empty += 1
                elif self._errors is None:
                    bad = self._why_it_ends(row, made, self.rows + done)
                    break
                else:
                    failures[made.code.value] += 1
                    lines.append(self._error_line(row, made))
            else:
                outputs.append(made)
            done += 1
        self._note(rows[:done])
        if self._errors is not None and lines:
            self._errors.write(b"".join(lines))
            self._errors.flush()
        failed = self.failed + failures.total()
        position = Position(self._digest.hexdigest(), failed, self._errors.tell() if self._errors else 0)
        if done:
            copier.settle(outputs, partition, (self.rows, msgspec.json.encode(position).decode()))
        self.written += len(outputs)
        self.empty += empty
        self.failed = failed
        self.codes.update(failures)
        return bad

    def _note(self, rows: Sequence[Row]) -> None:
        for row in rows:
            value = row.value or b""
            self._digest.update(b"%d " % len(value) + value)
        self.rows += len(rows)

    def _why_it_ends(self, row: Row, failure: DataFailure, rows: int) -> str:
        kind = "row" if self.kinds[row.file] in ("csv", "parquet") else "line"
        return (
            f"{self.files[row.file]}, {kind} {row.line}: {failure.code.value}: {failure.message} The rows before it"
            f" ({rows:,}) are loaded. Correct this one and give the same command again to continue there; or skip"
            " such rows with --errors FILE"
        )

    def _error_line(self, row: Row, failure: DataFailure) -> bytes:
        error = {"code": failure.code.value, "message": failure.message}
        return msgspec.json.encode({"file": self.files[row.file], "line": row.line, "error": error}) + b"\n"


def job_name(files: Sequence[str]) -> str:
    """The name of a job that loads these files: the same for the same paths in the same order."""
    paths = "\0".join(str(Path(file).resolve()) for file in files)
    return hashlib.blake2b(paths.encode(errors="surrogateescape"), digest_size=6).hexdigest()
