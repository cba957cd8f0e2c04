"""Flow control: how much the source may take.

Two bounds. Bytes: what is taken and not yet durable, in the source's own measure, and what came of it (answers, and
headers once they are read) stay within the budget. Open records: what is taken and has no outcome yet stays within
what the workers can compute in `HORIZON_S`, so that under a backlog records wait in Kafka and not in here; and within
what the budget has room for, should their answers be as large as the last ones. Records that wait behind a slow one of
their partition count for the first bound only: a slow record must not hold the other partitions. So do those that wait
for a schema.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamer.core.pipeline.protocol import Grant

HORIZON_S = 2.0
OPEN_PER_WORKER = 2048  # two sort windows
OPEN_MAX = 32768
OPEN_FIRST = 256  # until the first answers show how large they are
OPEN_LEAST = 16
LARGE_RECORD_BYTES = 8192  # from this mean on a record counts so many times:
LARGE_COPIES = 3  # as it came, its text, and what goes to the worker
SMALL_BYTES = 256  # what is extra of a record, and does not matter
RATE_WINDOW_S = 0.25
GRANT_STEPS = 8  # grants grow by an eighth of their bound: a grant a record would make a micro-batch a record


@dataclass(slots=True)
class Flow:
    """Counts what came in and what was freed; totals since the start."""

    budget_bytes: int
    open_min: int = OPEN_PER_WORKER
    taken_records: int = 0
    taken_bytes: int = 0
    freed_bytes: int = 0
    ended_records: int = 0
    extra_bytes: int = 0
    _taken_each: float = 0.0
    _answer_each: float = 0.0
    rate_per_s: float = 0.0
    _rate_at: float = 0.0
    _rate_from: int = 0
    _granted: Grant | None = None

    def took(self, records: int, size_bytes: int) -> None:
        """A micro-batch came in."""
        self.taken_records += records
        self.taken_bytes += size_bytes

    def weigh_taken(self, records: int, extra_bytes: int) -> None:
        """So many records turned out to take so much more than the source had counted."""
        self.extra_bytes += extra_bytes
        self._taken_each = _recent(self._taken_each, extra_bytes / records)

    def weigh_answers(self, answers: int, extra_bytes: int) -> None:
        """So many answers came, and take so much."""
        self.extra_bytes += extra_bytes
        self._answer_each = _recent(self._answer_each, extra_bytes / answers)

    def measure(self, now: float) -> None:
        """Learn how many records end in a second, over windows of a quarter second; idle windows teach nothing."""
        elapsed = now - self._rate_at
        if elapsed < RATE_WINDOW_S:
            return
        ended = self.ended_records - self._rate_from
        if ended and elapsed < 4 * RATE_WINDOW_S:
            self.rate_per_s += 0.5 * (ended / elapsed - self.rate_per_s)
        self._rate_at, self._rate_from = now, self.ended_records

    def grant(self, sealed: int = 0, stuck_bytes: int = 0) -> Grant | None:
        """The new grant, if it has grown enough to be worth a micro-batch. So many records wait for a schema, and so
        much can't be settled before them: their partitions are paused (`sealed`), but what was taken before that may
        fill the budget, and others get more."""
        window = min(max(self.open_min, int(self.rate_per_s * HORIZON_S)), OPEN_MAX)
        if not self.ended_records:
            window, sealed = min(window, OPEN_FIRST), 0
        each = self._taken_each + self._answer_each
        if each > SMALL_BYTES:
            room = int((self.budget_bytes - self.in_flight_bytes) / each) - sealed
            window = min(window, max(room, OPEN_LEAST))
        # Half of the budget is for the others, since a source that held for long wants as much before it goes on, and
        # one step more, by which the last grant may fall short.
        step_bytes = self.budget_bytes // GRANT_STEPS
        spare_bytes = min(max(stuck_bytes + step_bytes - self.budget_bytes // 2, 0), self.budget_bytes)
        size_bytes = self.freed_bytes + self.budget_bytes + spare_bytes - self.extra_bytes
        grant = Grant(self.ended_records + sealed + window, size_bytes)
        before = self._granted
        if (
            before is not None
            and abs(grant.records - before.records) < max(window // GRANT_STEPS, 1)
            and abs(grant.size_bytes - before.size_bytes) < step_bytes
        ):
            return None
        self._granted = grant
        return grant

    def hold(self) -> Grant:
        """Take no more at all."""
        self._granted = Grant(0, 0)
        return self._granted

    @property
    def holds(self) -> bool:
        """Whether the source may take nothing now."""
        granted = self._granted
        return granted is not None and (self.taken_records >= granted.records or self.taken_bytes >= granted.size_bytes)

    @property
    def in_flight_bytes(self) -> int:
        """What of the budget is in use."""
        return self.taken_bytes + self.extra_bytes - self.freed_bytes


def _recent(before: float, now: float) -> float:
    """A mean over the last ones that follows growth at once."""
    return max(now, 0.9 * before + 0.1 * now)
