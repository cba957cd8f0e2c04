"""What is wrong with what subscribers saw. Pure: events, two readers' outcomes and retention in, anomalies out.

The names are those of Jepsen's checkers, where they have one: a *lost* write was acknowledged and never read; an
*unseen* one is there for the reader after the run and was not for the one during it; an *aborted read* is one that the
reader during the run saw and that is not there afterwards. Unknown is what the brokers never acknowledged: it may have
an outcome or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LOST: Final = "lost"
DUPLICATE: Final = "duplicate"
UNSEEN: Final = "unseen"
ABORTED_READ: Final = "aborted read"
REORDERED: Final = "reordered"
DEAD_LETTERED: Final = "good record dead-lettered"
WRONG: Final = "wrong answer"
PHANTOM: Final = "phantom"
SILENT: Final = "unanswered in silence"
KINDS: Final = (LOST, DUPLICATE, UNSEEN, ABORTED_READ, REORDERED, DEAD_LETTERED, WRONG, PHANTOM, SILENT)
SILENCE_S: Final = 60.0
MEANINGS: Final = {
    LOST: "acknowledged to its producer, without an outcome afterwards",
    DUPLICATE: "more than one outcome",
    UNSEEN: "an outcome that the reader afterwards has and the reader during the run has not",
    ABORTED_READ: "an outcome that the reader during the run had and the reader afterwards has not",
    REORDERED: "its first outcome stands behind that of a later record of its partition",
    DEAD_LETTERED: "a dead letter, though nothing is wrong with the record",
    WRONG: "another answer than the model gives for this text, or a result for a record that kills workers",
    PHANTOM: "an outcome of a record that nobody wrote, or of another place than the record's",
    SILENT: f"without an outcome for {SILENCE_S:.0f} s in which every member's /readyz said that all is well",
}


class Event(NamedTuple):
    """An event as it was written: `number` is its identity. Without acknowledgement the end of its writing is unknown;
    the brokers may also acknowledge without telling the offset, when they have the event from an earlier try.

    `answer` is what the model has to say of it, None where that is not judged; a `deadly` one kills the worker that
    computes it, and has to end as a dead letter.
    """

    number: int
    partition: int
    offset: int | None
    answer: int | None = None
    deadly: bool = False
    acknowledged: bool = True


class Outcome(NamedTuple):
    """A result (`code` is "") or a dead letter, where it lies, and the record that it says it is of."""

    number: int
    source_partition: int
    source_offset: int
    code: str
    answer: int | None
    partition: int
    offset: int


@dataclass(slots=True)
class Verdict:
    """Events by anomaly, in the order of their finding; what is no anomaly is counted beside them."""

    anomalies: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    events: int = 0
    outcomes: int = 0
    unknown: int = 0
    unknown_with_outcome: int = 0
    unseen_by_retention: int = 0

    @property
    def anomalous(self) -> bool:
        """Whether anything is wrong."""
        return any(self.anomalies.values())


@dataclass(slots=True)
class Silence:
    """Finds events that wait although all members say that they are well. Times are seconds of a monotonic clock;
    `found` are the numbers of these events."""

    found: set[int] = field(default_factory=set)
    _waiting: dict[int, float] = field(default_factory=dict)
    _looked_at: int = 0
    _outcomes: int = 0

    def look(
        self,
        events: Sequence[Event],
        outcomes: Sequence[Outcome],
        deleted: Mapping[int, int],
        now: float,
        *,
        well: bool,
    ) -> None:
        """One look: both sequences only ever grow, but for what is known of an event's end. `well` says that every
        member was asked and said so."""
        for event in events[self._looked_at :]:
            self._waiting[event.number] = now
        self._looked_at = len(events)
        for outcome in outcomes[self._outcomes :]:
            self._waiting.pop(outcome.number, None)
        self._outcomes = len(outcomes)
        for number, since in list(self._waiting.items()):
            event = events[number]
            if event.offset is not None and event.offset < deleted.get(event.partition, 0):
                del self._waiting[number]
            elif not well or not event.acknowledged:
                self._waiting[number] = now
            elif now - since > SILENCE_S:
                self.found.add(number)


def check(
    events: Sequence[Event],
    during: Sequence[Outcome],
    after: Sequence[Outcome],
    deleted: Mapping[int, int] | None = None,
    silent: Iterable[int] = (),
) -> Verdict:
    """Judge what two read_committed readers saw, each in the order in which it read.

    `deleted` gives for an input partition the offset below which retention deleted records: those that have no outcome
    are unseen by retention, not lost. `silent` are the events that waited in silence.
    """
    deleted = deleted or {}
    by_number = {event.number: event for event in events}
    verdict = Verdict(events=len(events), outcomes=len(after))
    anomalies = verdict.anomalies
    times = Counter(outcome.number for outcome in after)
    anomalies[DUPLICATE] = [number for number, count in times.items() if count > 1]
    anomalies[SILENT] = sorted(silent)
    anomalies[REORDERED] = sorted({*_reordered(during), *_reordered(after)})
    seen_during, seen_after = set(during), set(after)
    anomalies[UNSEEN] = [outcome.number for outcome in after if outcome not in seen_during]
    anomalies[ABORTED_READ] = [outcome.number for outcome in during if outcome not in seen_after]
    for outcome in after:
        event = by_number.get(outcome.number)
        if event is None or not _is_of(outcome, event):
            anomalies[PHANTOM].append(outcome.number)
        elif outcome.code and not event.deadly:
            anomalies[DEAD_LETTERED].append(outcome.number)
        elif not outcome.code and (event.deadly or event.answer not in (None, outcome.answer)):
            anomalies[WRONG].append(outcome.number)
    for event in events:
        has_outcome = event.number in times
        if not event.acknowledged:
            verdict.unknown += 1
            verdict.unknown_with_outcome += has_outcome
        elif not has_outcome:
            if event.offset is not None and event.offset < deleted.get(event.partition, 0):
                verdict.unseen_by_retention += 1
            else:
                anomalies[LOST].append(event.number)
    return verdict


def _is_of(outcome: Outcome, event: Event) -> bool:
    at_its_place = event.offset in (None, outcome.source_offset)
    return outcome.partition == outcome.source_partition == event.partition and at_its_place


def _reordered(outcomes: Iterable[Outcome]) -> list[int]:
    """Records out of order, by their first outcomes, within the results and within the dead letters of each input
    partition."""
    found = []
    met: set[tuple[int, int]] = set()
    last: dict[tuple[int, bool], int] = {}
    for outcome in outcomes:
        place = (outcome.source_partition, outcome.source_offset)
        if place in met:
            continue
        met.add(place)
        line = (outcome.source_partition, outcome.code == "")
        if outcome.source_offset < last.get(line, -1):
            found.append(outcome.number)
        last[line] = max(outcome.source_offset, last.get(line, -1))
    return found
