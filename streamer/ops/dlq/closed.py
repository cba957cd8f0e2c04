"""What became of dead letters, as the state topic tells it, in a small database: in memory, or in a file that spares
this machine reading the topic again.

The file is a copy and nothing more. Whatever is wrong with it, it is rebuilt; what writes never goes by it.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from streamer.core.deadletters.letter import DeadLetter
from streamer.core.deadletters.state import Claim, Job, State, read_entry
from streamer.core.record import Record

VERSION: Final = 1
BLOCK_BITS: Final = 12  # offsets are looked up by blocks of 4096
BLOCKS: Final = 64
LOCK_S: Final = 30.0
UNUSED_S: Final = 30 * 86_400
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS next (partition INTEGER PRIMARY KEY, place INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS topics (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, job TEXT NOT NULL, note BLOB UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS states (
    topic INTEGER, part INTEGER, place INTEGER, timestamp_ms INTEGER NOT NULL, note INTEGER NOT NULL,
    PRIMARY KEY (topic, part, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY, job BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS claims (topic TEXT PRIMARY KEY, claim BLOB NOT NULL);
PRAGMA user_version = {VERSION};
"""
_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(State).decode


class Closed:
    """The dead letters that were replayed or discarded, the jobs that did it, and those that run now. For one thread,
    which closes it, by `with` where it can.

    Raises sqlite3.Error or OSError for a `file` that can't be used.
    """

    def __init__(self, file: Path | None = None) -> None:
        if file is not None:
            _prepare(file)
        self._database = sqlite3.connect(file or ":memory:", timeout=LOCK_S, isolation_level=None)
        try:
            self._begin()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def holds(self, letter: DeadLetter) -> bool:
        """Whether it was replayed or discarded, and not reopened since."""
        return self.find(letter) is not None

    def find(self, letter: DeadLetter) -> State | None:
        """What became of a dead letter, None while it is open."""
        record = letter.record
        found = self._block(record.topic(), record.partition(), record.offset() >> BLOCK_BITS).get(record.offset())
        if found is None or found[0] != letter.timestamp_ms:
            return None
        state = self._note(found[1])
        return None if state.state == "reopened" else msgspec.structs.replace(state, timestamp_ms=found[0])

    def count(self, job: str) -> int:
        """How many dead letters this job has closed or reopened."""
        asked = "SELECT count(*) FROM states WHERE note IN (SELECT id FROM notes WHERE job = ?)"
        return int(self._database.execute(asked, (job,)).fetchone()[0])

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs by name."""
        rows = self._database.execute("SELECT name, job FROM jobs").fetchall()
        return {name: msgspec.json.decode(job, type=Job) for name, job in rows}

    @property
    def claims(self) -> dict[str, Claim]:
        """Who moves dead letters now, or did not say that it ended, by dead-letter topic."""
        rows = self._database.execute("SELECT topic, claim FROM claims").fetchall()
        found = {topic: msgspec.json.decode(claim, type=Claim) for topic, claim in rows}
        return {topic: claim for topic, claim in found.items() if not claim.ended}

    @property
    def next(self) -> dict[int, int]:
        """The offsets of the state topic that are not read yet, by partition."""
        return dict(self._database.execute("SELECT partition, place FROM next").fetchall())

    def add(self, records: Iterable[Record]) -> None:
        """Take in records of the state topic; what is not ours is skipped."""
        rows: list[tuple[int, int, int, int, int]] = []
        for record in records:
            entry = read_entry(record.key(), record.value())
            if entry is None:
                continue
            topic, partition, offset, said = entry
            if isinstance(said, State):
                rows.append((self._topic(topic), partition, offset, said.timestamp_ms, self._note_id(said)))
            elif isinstance(said, Job):
                self._database.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (topic, _encode(said)))
            else:
                self._database.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (topic, _encode(said)))
        self._database.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?)", rows)
        self._blocks.clear()

    def note_read(self, ends: Mapping[int, int]) -> None:
        """All before these offsets of the state topic is in."""
        self._database.executemany("INSERT OR REPLACE INTO next VALUES (?, ?)", ends.items())

    def forget(self) -> None:
        """Start over."""
        for table in ("next", "topics", "notes", "states", "jobs", "claims"):
            self._database.execute(f"DELETE FROM {table}")
        self._recall()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """All that is added within at once or not at all, by one process at a time."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._recall()  # another process may have gone on
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            self._recall()
            raise
        self._database.execute("COMMIT")

    def _begin(self) -> None:
        self._database.execute("PRAGMA cache_size = -8000")
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._database.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError("another version's")
        elif self._database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
        self._recall()
        try:
            _ = self.jobs, self.claims
            for (number,) in self._database.execute("SELECT id FROM notes").fetchall():
                self._note(number)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise sqlite3.DatabaseError("damaged") from None

    def _recall(self) -> None:
        """Forget what was kept in memory of the tables."""
        self._topics: dict[str, int] = {}
        self._note_ids: dict[State, int] = {}
        self._notes: dict[int, State] = {}
        self._blocks: OrderedDict[tuple[str, int, int], dict[int, tuple[int, int]]] = OrderedDict()

    def _topic(self, name: str) -> int:
        found = self._topics.get(name)
        if found is None:
            self._database.execute("INSERT OR IGNORE INTO topics (name) VALUES (?)", (name,))
            found = self._topics[name] = int(
                self._database.execute("SELECT id FROM topics WHERE name = ?", (name,)).fetchone()[0]
            )
        return found

    def _note_id(self, state: State) -> int:
        """What is said of many dead letters in the same words is kept once."""
        note = State(state.state, state.job, state.by, state.time, 0, state.reason, state.edited)
        found = self._note_ids.get(note)
        if found is None:
            encoded = _encode(note)
            self._database.execute("INSERT OR IGNORE INTO notes (job, note) VALUES (?, ?)", (state.job, encoded))
            asked = "SELECT id FROM notes WHERE note = ?"
            found = self._note_ids[note] = int(self._database.execute(asked, (encoded,)).fetchone()[0])
        return found

    def _note(self, number: int) -> State:
        if number not in self._notes:
            row = self._database.execute("SELECT note FROM notes WHERE id = ?", (number,)).fetchone()
            self._notes[number] = _decode_state(row[0])
        return self._notes[number]

    def _block(self, topic: str, partition: int, number: int) -> dict[int, tuple[int, int]]:
        key = (topic, partition, number)
        block = self._blocks.get(key)
        if block is None:
            asked = (
                "SELECT place, timestamp_ms, note FROM states WHERE topic = (SELECT id FROM topics WHERE name = ?)"
                " AND part = ? AND place BETWEEN ? AND ?"
            )
            low = number << BLOCK_BITS
            rows = self._database.execute(asked, (topic, partition, low, low + (1 << BLOCK_BITS) - 1)).fetchall()
            block = self._blocks[key] = {place: (time_ms, note) for place, time_ms, note in rows}
            if len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        return block


def cache_file(identity: str) -> Path:
    """Where the copy of the state topic with this id is kept: a topic that was recreated has another id. Raises
    RuntimeError for a user who has no home."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    name = re.sub(r"[^A-Za-z0-9_-]", "_", identity)
    return Path(home) / "streamer" / f"dlq-state-{name}.sqlite"


def remove(file: Path) -> None:
    """Take a file that is no use away, with what SQLite left beside it."""
    for each in (file, file.with_name(f"{file.name}-journal")):
        with suppress(OSError):
            each.unlink()


def _prepare(file: Path) -> None:
    """Make its folder, and refuse a file that is another user's; take away those that were not used for a month."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise OSError(f"{file} is not a file of this user")
        os.utime(file)
        return
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for old in file.parent.glob("dlq-state-*.sqlite"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > UNUSED_S:
                remove(old)
