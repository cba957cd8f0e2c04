"""A job over files that goes on where it was killed: what was written is a part of the output, and a note says how much
of it counts.

While a job runs, `OUT.partial` has its lines, and `OUT.partial.job` says who it is, how many rows are done, and how
long the file was then. A job that is started again cuts the file to that length and goes on with the next row; one of
another model, of other inputs or options is refused. At the end the file gets its name in one step.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from streamer.errors import UsageError

PARTIAL: Final = ".partial"
NOTE: Final = ".partial.job"

_NAMES: Final = {
    "files": "the list of input files, or one of them,",
    "format": "the input format",
    "fields": "the choice of fields",
    "errors": "the use of --errors",
    "task": "the task",
    "reference": "the model reference",
    "model": "the model's name",
    "revision": "the model",
    "options": "one of the options",
    "on_overflow": "on_overflow",
}

Convert = Callable[[Path, Path], None]
"""Makes a table of a file of lines."""


class Note(msgspec.Struct, frozen=True):
    """`identity` is what has to be the same for the job to go on; sizes are of the partial files, in bytes. Of
    a `complete` one only the files have to get their names."""

    identity: dict[str, Any]
    rows: int = 0
    failed: int = 0
    size_bytes: int = 0
    errors_bytes: int = 0
    complete: bool = False


@dataclass(slots=True)
class Job:
    """The files of one job. `errors` is where failed rows go, None where they stand among the results.
    `convert` makes another format of the lines."""

    output: Path
    errors: Path | None
    restart: bool = False
    convert: Convert | None = None
    note: Note | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Look at what is there. Raises UsageError where the output can't be written, or is complete already."""
        for path in filter(None, (self.output, self.errors)):
            writable(path)
        if self.errors is not None and self.errors.absolute() == self.output.absolute():
            raise UsageError(f"{self.output} can't take both results and errors: name another file with --errors")
        with ExitStack() as held:
            for path in self._partials:
                if path.exists():
                    _lock(held.enter_context(path.open("rb")), path)
            self._look()

    def _look(self) -> None:
        if self.restart:
            for path in (self._note_path, *self._partials):
                path.unlink(missing_ok=True)
            return
        if self._note_path.is_file():
            try:
                self.note = msgspec.json.decode(self._note_path.read_bytes(), type=Note)
            except msgspec.MsgspecError:
                raise UsageError(f"{self._note_path} is damaged: --restart starts over") from None
            if self.note.complete:  # it ended while the files got their names
                self._finish()
            return
        for path in filter(None, (self.output, self.errors)):
            if path.exists():
                raise UsageError(
                    f"{path} already exists and is complete: --restart replaces it once the new one is complete, or you"
                    " can name another file"
                )

    @property
    def rows_done(self) -> int:
        """How many rows an earlier run has answered."""
        return self.note.rows if self.note else 0

    @property
    def failed(self) -> int:
        """How many of those failed."""
        return self.note.failed if self.note else 0

    @property
    def ended(self) -> bool:
        """Whether an earlier run had answered all rows, and only names were left to be given."""
        return self.note is not None and self.note.complete

    @property
    def _note_path(self) -> Path:
        return self.output.with_name(self.output.name + NOTE)

    @property
    def _partials(self) -> tuple[Path, ...]:
        return tuple(path.with_name(path.name + PARTIAL) for path in (self.output, self.errors) if path is not None)

    def check(self, identity: dict[str, Any]) -> dict[str, Any]:
        """Returns what has to be the same, as it comes back from a note. Raises UsageError where it is another."""
        identity = msgspec.json.decode(msgspec.json.encode(identity))
        before = self.note.identity if self.note is not None else identity
        if names := sorted(name for name in identity if before.get(name) != identity[name]):
            raise UsageError(
                f"{self._partials[0]} can't be continued, because {_changed(names)} since it was started: --restart"
                " starts over, or you can name another file with -o"
                if not self.ended
                else f"{self.output} was completed just now, but {_changed(names)} since it was started: --restart"
                " starts over, or you can name another file with -o"
            )
        return identity

    def begin(self, identity: dict[str, Any]) -> list[Any]:
        """Open the partial files behind what counts of them: one for the output, one for errors where they have their
        own. Raises UsageError where an earlier run was another job."""
        identity = self.check(identity)
        if self.note is None:
            self.note = Note(identity)
        streams = []
        for path, size_bytes in zip(self._partials, (self.note.size_bytes, self.note.errors_bytes), strict=False):
            stream = path.open("r+b" if path.exists() else "w+b")
            _lock(stream, path)
            if os.fstat(stream.fileno()).st_size < size_bytes:
                raise UsageError(f"{path} is shorter than it was: --restart starts over")
            stream.truncate(size_bytes)
            stream.seek(size_bytes)
            streams.append(stream)
        self._save()
        return streams

    def reached(self, rows: int, failed: int, sizes: list[int]) -> None:
        """So many rows are answered, and their lines written and flushed: the files were so long then, in bytes."""
        assert self.note is not None
        self.note = Note(self.note.identity, rows, failed, sizes[0], sizes[1] if len(sizes) > 1 else 0)
        self._save()

    def end(self, streams: list[Any]) -> None:
        """All rows are answered: the output gets its name."""
        assert self.note is not None
        for stream in streams:
            stream.flush()
            os.fsync(stream.fileno())
        self.note = msgspec.structs.replace(self.note, complete=True)
        self._save()
        self._finish()
        for stream in streams:
            stream.close()

    def _finish(self) -> None:
        """Wherever this is killed, it goes on when it is called again."""
        lines, *errors = self._partials
        if errors and self.errors is not None and errors[0].exists():
            errors[0].replace(self.errors)
        if lines.exists():
            if self.convert is None:
                lines.replace(self.output)
            else:
                made = self.output.with_name(self.output.name + ".making")
                try:
                    self.convert(lines, made)
                except OSError:  # a full disk needs the room
                    made.unlink(missing_ok=True)
                    raise
                made.replace(self.output)
                lines.unlink()
        self._note_path.unlink()

    def _save(self) -> None:
        """Not fsynced: a process that is killed has handed it to the system."""
        beside = self._note_path.with_name(self._note_path.name + ".new")
        beside.write_bytes(msgspec.json.encode(self.note))
        beside.replace(self._note_path)


def writable(path: Path) -> None:
    """Raises UsageError where no file can be made at `path`."""
    if path.parent.is_file():
        raise UsageError(f"{path}: {path.parent} is a file; name a place in a folder")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: you have no right to write in {path.parent}")


def _lock(stream: BinaryIO, path: Path) -> None:
    """Until the stream is closed, however the process ends. Raises UsageError where another process has it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path} is being written by another process: wait for it to end, or stop it") from None


def _changed(names: list[str]) -> str:
    said = [_NAMES.get(name, name) for name in names]
    return f"{said[0]} has changed" if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]} have changed"
