"""Pick dead letters by what their headers say.

The headers of our own dead letters are compared as bytes; only those that are picked are parsed. So a filter costs
little more than reading the headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from streamer.core import headers as names
from streamer.core.deadletters.causes import fingerprint
from streamer.core.deadletters.families import Reason, count, read
from streamer.core.deadletters.letter import DeadLetter, timestamp_ms, trace_id
from streamer.core.deadletters.replay import event_id
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.state import Closed
from streamer.core.events.codec import Reading
from streamer.core.events.record_headers import headers_of
from streamer.core.record import Headers, Record

_FOREVER_MS = 1 << 62
Test = Callable[[int | None], bool]


class Selector:
    """Applies a selection. What was `closed` before is left out; None leaves nothing out. `readings` say how
    pipelines read events that are not JSON of our own format."""

    def __init__(
        self, selection: Selection, closed: Closed | None = None, readings: Mapping[str, Reading] | None = None
    ) -> None:
        self._closed = closed
        self._readings = readings or {}
        self._since_ms = -1 if selection.since_ms is None else selection.since_ms
        self._until_ms = _FOREVER_MS if selection.until_ms is None else selection.until_ms
        self._timed = selection.since_ms is not None or selection.until_ms is not None
        self._texts = [
            (header, field, frozenset(allowed))
            for header, field, allowed in (
                (names.ERROR_CODE, "code", selection.codes),
                (names.ERROR_CLASS, "failure_class", selection.classes),
                (names.ERROR_PIPELINE, "pipeline", selection.pipelines),
                (names.CONNECT_TOPIC, "topic", selection.origin_topics),
            )
            if allowed
        ]
        self._bytes = [(header, frozenset(text.encode() for text in allowed)) for header, _, allowed in self._texts]
        self._numbers = [
            (header, field, test)
            for header, field, test in (
                (names.CONNECT_PARTITION, "partition", _one_of(selection.origin_partitions)),
                (names.CONNECT_OFFSET, "offset", _within(selection.origin_offsets)),
                (names.ERROR_ATTEMPTS, "attempts", _within(selection.attempts, absent=1)),
            )
            if test is not None
        ]
        self._keys = frozenset(selection.keys)
        self._headers = selection.headers
        self._causes = frozenset(selection.causes)
        self._ids, self._traces = frozenset(selection.ids), frozenset(selection.traces)

    def pick(self, records: Sequence[Record]) -> Iterator[DeadLetter]:
        """The dead letters among these records that the selection asks for, in their order."""
        if self._timed:
            records = [record for record in records if self._since_ms <= timestamp_ms(record) <= self._until_ms]
        if self._keys:
            records = [record for record in records if record.key() in self._keys]
        ours, texts, numbers = names.ERROR_CODE, self._bytes, self._numbers
        for record, headers in zip(records, headers_of(records), strict=True):
            found = dict(headers or ())
            if ours in found:
                for header, allowed in texts:
                    if found.get(header) not in allowed:
                        break
                else:
                    if all(test(count(found.get(header))) for header, _, test in numbers):
                        yield from self._closely(record, headers, read(found))
            elif self._wants(reason := read(found)):
                yield from self._closely(record, headers, reason)

    def _closely(self, record: Record, headers: Headers | None, reason: Reason) -> Iterator[DeadLetter]:
        """The dead letter, if also what is slow to tell speaks for it."""
        if self._headers and not all(header in (headers or ()) for header in self._headers):
            return
        if self._causes and fingerprint(reason) not in self._causes:
            return
        letter = DeadLetter(record, headers, reason, self._readings.get(reason.pipeline or ""))
        if self._traces and trace_id(letter) not in self._traces:
            return
        if self._ids and event_id(letter) not in self._ids:
            return
        if self._closed is None or not self._closed.holds(letter):
            yield letter

    def _wants(self, reason: Reason) -> bool:
        """What `pick` tells from the bytes of our own headers, for the dead letters of others."""
        return all(getattr(reason, field) in allowed for _, field, allowed in self._texts) and all(
            test(getattr(reason, field)) for _, field, test in self._numbers
        )


def _one_of(numbers: Sequence[int]) -> Test | None:
    return frozenset(numbers).__contains__ if numbers else None


def _within(bounds: tuple[int, int | None] | None, absent: int | None = None) -> Test | None:
    """`absent` stands for a number that is not there; a range without it holds no such."""
    if bounds is None:
        return None
    low, high = bounds

    def test(number: int | None) -> bool:
        number = absent if number is None else number
        return number is not None and low <= number and (high is None or number <= high)

    return test
