"""Find dead letters in their topics, and what became of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.ops.dlq.closed import Closed, cache_file, remove
from streamer.ops.dlq.ports import Log


def read_closed(log: Log) -> Closed:
    """What was replayed or discarded so far; nothing where there is no state topic yet. What this machine has read
    before comes from a file, so that this is for looking only."""
    identity = log.identity(STATE_TOPIC)
    if identity is None:
        return Closed()
    if identity:
        for _ in range(2):
            try:
                file = cache_file(identity)
                return _caught_up(Closed(file), log)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                    break
                remove(file)
            except (OSError, RuntimeError):  # no home, or none to write in
                break
    return _caught_up(Closed(), log)


def read_closed_from_topic(log: Log) -> Closed:
    """The same from the topic alone, for what writes by it."""
    return _caught_up(Closed(), log)


def catch_up(log: Log, closed: Closed) -> None:
    """Read on in the state topic, from where `closed` stands to the end."""
    if log.identity(STATE_TOPIC) is None:
        return
    while True:
        begun = closed.next
        with log.scan(STATE_TOPIC, starts=begun) as scan:
            if dict(scan.ends) == begun:
                return
            with closed.exclusively():
                if closed.next != begun:  # another process went on meanwhile
                    continue
                if any(scan.ends.get(partition, 0) < place for partition, place in begun.items()):
                    closed.forget()  # the log is shorter than it was
                    continue
                for records in scan.batches():
                    closed.add(records)
                closed.note_read(scan.ends)
                return


def _caught_up(closed: Closed, log: Log) -> Closed:
    try:
        catch_up(log, closed)
    except BaseException:
        closed.close()
        raise
    return closed


def find(log: Log, topics: Iterable[str], selection: Selection, closed: Closed | None) -> Iterator[DeadLetter]:
    """The dead letters of these topics that the selection asks for and that are not closed, topic by topic."""
    selector = Selector(selection, closed, log.readings)
    for topic in topics:
        with log.scan(topic) as scan:
            for records in scan.batches():
                yield from selector.pick(records)


def letter_at(log: Log, place: Place) -> DeadLetter | None:
    """The dead letter at a place, None when there is no record."""
    selector = Selector(Selection(), readings=log.readings)
    starts, ends = {place.partition: place.offset}, {place.partition: place.offset + 1}
    with log.scan(place.topic, starts=starts, ends=ends) as scan:
        for records in scan.batches():
            for letter in selector.pick(records):
                return letter
    return None
