"""Find dead letters in their topics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import STATE_TOPIC, Closed
from streamer.ops.dlq.ports import Log


def read_closed(log: Log) -> Closed:
    """What was replayed or discarded so far; nothing where there is no state topic yet."""
    closed = Closed()
    if log.describe([STATE_TOPIC])[STATE_TOPIC] is None:
        return closed
    with log.scan(STATE_TOPIC) as scan:
        for records in scan.batches():
            closed.add(records)
    return closed


def find(
    log: Log, topics: Iterable[str], selection: Selection, closed: Closed, *, with_closed: bool = False
) -> Iterator[DeadLetter]:
    """The dead letters of these topics that the selection asks for, topic by topic."""
    selector = Selector(selection, closed, with_closed=with_closed)
    for topic in topics:
        with log.scan(topic) as scan:
            for records in scan.batches():
                yield from selector.pick(records)


def letter_at(log: Log, place: Place) -> DeadLetter | None:
    """The dead letter at a place, None when there is no record."""
    selector = Selector(Selection(), Closed(), with_closed=True)
    starts, ends = {place.partition: place.offset}, {place.partition: place.offset + 1}
    with log.scan(place.topic, starts=starts, ends=ends) as scan:
        for records in scan.batches():
            for letter in selector.pick(records):
                return letter
    return None
