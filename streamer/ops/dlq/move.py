"""Replay, edit or discard dead letters in transactions; a job that was killed goes on where it stood.

Nothing moves twice, whatever is killed and whoever else is at it: what closes a dead letter is written in the
transaction that moves it, and a dead-letter topic has one copier at a time. To open it ends an older one's transaction
and keeps it from another, and what is closed already is read after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from streamer.core.deadletters.audit import AUDIT_TOPIC, Audit, audit_output
from streamer.core.deadletters.letter import DeadLetter
from streamer.core.deadletters.replay import Decide, Move
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import STATE_TOPIC, Job, job_record
from streamer.core.output import Output
from streamer.ops.dlq.find import read_closed
from streamer.ops.dlq.ports import Copier, Log
from streamer.ops.dlq.survey import Order, Survey, Targets, known_job

CHUNK_RECORDS = 500
CHUNK_S = 0.1
BURST_S = 1.0

OpenCopier = Callable[[str, Sequence[int]], Copier]


def utc_text() -> str:
    """The time now, in UTC, as RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Mover:
    """Executes one order. `open_copier` takes a dead-letter topic and the size limits of the topics written to;
    `progress` is told how many have moved; `clock` and `sleep` are in seconds; `time_text` is the time in RFC 3339."""

    def __init__(
        self,
        log: Log,
        order: Order,
        decide: Decide,
        targets: Targets,
        open_copier: OpenCopier,
        *,
        progress: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        time_text: Callable[[], str] = utc_text,
    ) -> None:
        self.moved = 0
        self._log, self._order, self._decide, self._targets = log, order, decide, targets
        self._open_copier, self._progress, self._clock, self._sleep = open_copier, progress, clock, sleep
        self._time_text = time_text
        self._due = 0.0
        self._left = 0
        rate = order.rate_per_s
        self._chunk = CHUNK_RECORDS if rate is None else max(1, min(CHUNK_RECORDS, round(rate * CHUNK_S)))

    def execute(self, found: Survey) -> int:
        """Move what the survey found and is still open; returns how many.

        Raises StreamerError when something can't be written. What was moved by then stays moved, and the same job,
        started again, goes on from there.
        """
        for topic in (STATE_TOPIC, AUDIT_TOPIC):
            self._targets(topic)
        last = len(self._order.topics) - 1
        for index, topic in enumerate(self._order.topics):
            copier = self._open_copier(topic, self._targets.limits)
            try:
                closed = read_closed(self._log)
                job = known_job(closed, self._order) or self._job(found)
                before = closed.count(job.job)
                if index == 0:
                    copier.commit(self._began(job, found, before))
                    self._due = self._clock()
                self._left = found.total - self.moved
                with self._log.scan(topic, ends=job.ends[topic]) as scan:
                    selector = Selector(job.selection, closed)
                    self._move(copier, (letter for records in scan.batches() for letter in selector.pick(records)))
                if index == last:
                    copier.commit([self._audit("ended", found, found.before + self.moved)])
            finally:
                copier.close()
        return self.moved

    def _move(self, copier: Copier, letters: Iterable[DeadLetter]) -> None:
        outputs: list[Output] = []
        waiting = 0
        for letter in letters:
            if waiting == self._left:
                break
            decision = self._decide(letter)
            if not isinstance(decision, Move):
                continue
            outputs += decision.outputs
            waiting += 1
            if waiting == self._chunk:
                self._commit(copier, outputs, waiting)
                outputs, waiting = [], 0
        if waiting:
            self._commit(copier, outputs, waiting)

    def _commit(self, copier: Copier, outputs: list[Output], count: int) -> None:
        """Commit when these are due: the rate holds over the whole run, and a slow stretch is caught up by at most a
        second's worth."""
        rate = self._order.rate_per_s
        if rate is not None:
            now = self._clock()
            self._due = max(self._due, now - BURST_S) + count / rate
            if self._due > now:
                self._sleep(self._due - now)
        copier.commit(outputs)
        self.moved += count
        self._left -= count
        self._progress(self.moved)

    def _job(self, found: Survey) -> Job:
        sign, order = self._order.signature, self._order
        return Job(sign.job, order.action, sign.by, sign.time, dict(order.wanted), order.selection, found.ends)

    def _began(self, job: Job, found: Survey, before: int) -> list[Output]:
        key, value = job_record(job)
        return [(STATE_TOPIC, -1, key, value, []), self._audit("began", found, before)]

    def _audit(self, event: Literal["began", "ended"], found: Survey, count: int) -> Output:
        order, sign = self._order, self._order.signature
        return audit_output(
            Audit(event, order.action, sign.job, sign.by, self._time_text(), dict(order.wanted), count, found.stay)
        )
