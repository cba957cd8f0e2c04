"""What is handed over: records become micro-batches, and what becomes of these is counted.

Partitions whose records took earlier processes down are handed over with care (`pipeline/attempts.py`): a few records,
or one, and the next when these are settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

from streamer.core.membership import Membership, Read, ReadFrom, Steps
from streamer.core.obstacles import offset_words
from streamer.core.pipeline.attempts import Attempts, standing_of
from streamer.core.read_progress import Ahead
from streamer.core.record import MicroBatch, Segment, TopicPartition
from streamer.core.standing import Standing

RECORD_OVERHEAD_BYTES: Final = 2560
"""What a record in flight takes beside its key and value (client message, event, flight, outcome, result; measured by
`streamer bench memory` with small records), so that the byte budget bounds memory for them too."""

ByPartition = dict[TopicPartition, list[Any]]
"""Records in the order of their offsets."""


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """How to read. `start` is earliest, latest or milliseconds since the epoch, for partitions without an offset.
    `crash_limit` processes may die with the same record. A partition that gives nothing although there is something to
    read is looked into after `stand_s`, and sought again after `stuck_s`. `address` is the brokers', for people."""

    topics: list[str]
    group: str = ""
    start: str | int = "earliest"
    skip_out_of_range: bool = False
    until_end: bool = False
    micro_batch_records: int = 2000
    linger_ms: float = 0.0
    budget_bytes: int = 48 << 20
    hold_s: float = 1.0
    revoke_deadline_s: float = 10.0
    crash_limit: int = 6
    stand_s: float = 20.0
    stuck_s: float = 60.0
    address: str = ""


class Intake:
    """On the source's thread, but for `done`. `records` and `size_bytes` are of all that was ever handed over,
    `out_of_range_records` counts what retention took before it was read."""

    def __init__(self, policy: SourcePolicy, ours: Membership, attempts: Attempts) -> None:
        self.records = 0
        self.size_bytes = 0
        self.out_of_range_records = 0
        self._policy = policy
        self._ours = ours
        self._attempts = attempts
        self._number = 0
        self._done = 0
        self._settled: deque[tuple[TopicPartition, int, int]] = deque()  # with epoch and the next offset

    def done(self, batch: MicroBatch) -> bool:
        """All of this micro-batch is durable or dropped. From any thread. Returns whether the next one waits for it."""
        if self._attempts.watching:
            for one in batch.segments:
                if not one.dropped:
                    self._settled.append(((one.topic, one.partition), one.epoch, one.records[-1].offset() + 1))
        self._done += 1
        return self._attempts.most is not None

    def note_settled(self, now: float) -> None:
        """Let the attempts know of what is done by now."""
        if not self._settled:
            return
        offsets: dict[TopicPartition, int] = {}
        while self._settled:
            key, epoch, offset = self._settled.popleft()
            if self._ours.epochs.get(key) == epoch:
                offsets[key] = offset
        self._attempts.settled(offsets, now)

    def nothing_came(self, now: float) -> None:
        """The client was asked and had no record."""
        if self._attempts.most is not None:
            self._attempts.waited(now)

    # --- how much ----------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether all that was ever handed over is durable or dropped."""
        return self._done == self._number

    @property
    def most(self) -> int:
        """How many records the next micro-batch may have: none while what is in flight has to be settled first."""
        usual, few = self._policy.micro_batch_records, self._attempts.most
        if few is None:
            return usual
        return 0 if self._done < self._number else min(few, usual)

    @property
    def waiting(self) -> Set[TopicPartition]:
        """The partitions that are held, or wait while another one's records run alone."""
        trial = self._attempts.on_trial
        return self._ours.epochs.keys() - {trial} if trial else frozenset(self._attempts.held)

    # --- what of it --------------------------------------------------------------------------------------------------

    def keep(self, found: ByPartition, before: Mapping[TopicPartition, int]) -> Steps[None]:
        """Take out of `found` what may not be handed over now, to be read again. `before` is what was ours when the
        client was asked for these: what went and came back since may have records from then, and is read from its
        start."""
        attempts, epochs = self._attempts, self._ours.epochs
        for key in list(found):
            epoch = epochs.get(key)
            if epoch is None or key in attempts.held:  # who ends a hold has it read from the committed offset
                del found[key]
            elif before.get(key, epoch) != epoch:
                yield ReadFrom({key: self._ours.starts[key]}, Read.SEEK)
                del found[key]
        if attempts.most is not None:  # partitions may have come during the call that need care
            trial = attempts.on_trial
            for key in list(found):
                yield from self._give_back(found, key, kept=0 if trial and key != trial else self.most)
        if not attempts.unmarked.isdisjoint(found):  # a note of these has to be seen to be committed first
            keys = attempts.unmarked & found.keys()
            yield from self._ours.mark({key: found[key][0].offset() for key in keys})
            for key in keys & attempts.unmarked:
                yield from self._give_back(found, key)

    def _give_back(self, found: ByPartition, key: TopicPartition, kept: int = 0) -> Steps[None]:
        """Read all but the first `kept` of these again, soon."""
        records = found[key]
        if kept >= len(records):
            return
        yield ReadFrom({key: records[kept].offset()}, Read.SEEK)
        self._ours.gave_back(key, records[-1].offset() + 1)
        if kept:
            found[key] = records[:kept]
        else:
            del found[key]

    def batch(self, found: ByPartition, trace_id: int, span_id: int, wall_ns: int, now: float) -> MicroBatch:
        """A micro-batch of what `keep` has left."""
        self._number += 1
        segments = [self._segment(key, records) for key, records in found.items()]
        return MicroBatch(self._number, segments, trace_id, span_id, wall_ns, now)

    def _segment(self, key: TopicPartition, records: list[Any]) -> Segment:
        keys = [key_bytes for record in records if (key_bytes := record.key())]
        size_bytes = sum(map(len, records)) + sum(map(len, keys)) + len(records) * RECORD_OVERHEAD_BYTES
        self.records += len(records)
        self.size_bytes += size_bytes
        segment = Segment(key[0], key[1], self._ours.epochs[key], records, size_bytes=size_bytes)
        self._ours.took(key, records[-1].offset() + 1)
        return segment

    # --- what is not there, and what is held -------------------------------------------------------------------------

    def out_of_range(self, key: TopicPartition, position: int, low: int, end: int) -> Steps[str]:
        """The client says that the next offset to read is none from `low` to `end`, or was none. Returns words to end
        with, "" where reading goes on."""
        place, group = f"{key[0]}/{key[1]}", self._policy.group
        if low <= position <= end:
            yield ReadFrom({key: position}, Read.REPLACE)
        elif self._policy.skip_out_of_range and position < low:
            self.out_of_range_records += low - position
            self._ours.reached[key] = low
            yield ReadFrom({key: low}, Read.REPLACE)
        elif self._policy.skip_out_of_range:
            yield from self._ours.reset_to_start(frozenset({key}))
        elif position < low:
            return (
                f"{place}: retention deleted {low - position} records between {position}, the next one to read, and "
                f'{low}, the first that is left. Set on_out_of_range = "earliest" to continue from there'
            )
        else:
            return (
                f"{place}: group {group} has come to offset {position}, and the log ends at {end}: it was recreated, "
                'truncated, or is a mirror with its own offsets. Set on_out_of_range = "earliest" to read all that is '
                f"there, from {low} on; or {offset_words(key, group, self._policy.address)}, where N is the next "
                "offset to read"
            )
        return ""

    def held(self, ahead: Mapping[TopicPartition, Ahead]) -> Iterator[Standing]:
        """The partitions that the crash ledger holds, with records behind what is settled. From any thread."""
        for key, mark in dict(self._attempts.held).items():
            one, there = standing_of(key, mark), ahead.get(key)
            if one is not None and (there is None or there.high < 0 or there.high > one.offset):
                yield one
