"""Reading the headers of records that a client hands over, also of those whose headers it can't read.

For a header name that is not UTF-8 confluent-kafka 2.16 returns a list with holes *and* sets an exception. Only a call
whose result the interpreter checks, as that of `map`, makes that a SystemError each time: its specialised call of a
method (what `record.headers()` becomes in a hot loop, CPython 3.11) does not look and hands the list over; and reading
that list, or asking the same message again, ends the process. So headers are read once, here, in bulk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from operator import methodcaller

from streamer.core.record import Headers, Record


def read_headers(records: Sequence[Record]) -> tuple[list[Headers | None], set[int]]:
    """The headers of each record as the client gives them (None for a record without), and the indexes of those that
    it can't read. To be called once for a record that may be of the latter."""
    found: list[Headers | None] = []
    unreadable: set[int] = set()
    kinds: set[type[Record]] = set(map(type, records))
    # A client's records are of one class, whose method takes half the time of one that is looked up for each.
    call_headers: Callable[[Record], Headers | None] = (
        kinds.pop().headers if len(kinds) == 1 else methodcaller("headers")
    )
    while len(found) < len(records):
        try:
            found.extend(map(call_headers, islice(records, len(found), None)))
        except SystemError:  # those before it are in the list
            unreadable.add(len(found))
            found.append(None)
    return found, unreadable


def headers_of(records: Sequence[Record]) -> list[Headers | None]:
    """The headers of each record, [] for one without, None where the client can't read them."""
    found, unreadable = read_headers(records)
    if None in found:
        return [[] if headers is None and index not in unreadable else headers for index, headers in enumerate(found)]
    return found
