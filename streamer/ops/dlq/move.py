"""Replay, edit or discard dead letters in transactions; a job that was killed goes on where it stood.

Nothing moves twice, whatever is killed and whoever else is at it: what closes a dead letter is written in the
transaction that moves it, and a dead-letter topic has one copier at a time. To open it ends an older one's transaction
and keeps it from another, and what is closed already is read after that. So that nobody ends another's by mistake,
whoever is at it claims the topic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from streamer.core.deadletters.audit import AUDIT_TOPIC, Audit, audit_output
from streamer.core.deadletters.letter import DeadLetter
from streamer.core.deadletters.replay import Decide, Move
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import STATE_TOPIC, Job, job_record
from streamer.core.output import Output
from streamer.core.record import TraceParent
from streamer.errors import ExitCode, StreamerError
from streamer.ops.dlq.claims import BEAT_S, Beat, RunningError, ensure_free
from streamer.ops.dlq.closed import Closed
from streamer.ops.dlq.find import catch_up, read_closed_from_topic
from streamer.ops.dlq.ports import Copier, Log, Scan
from streamer.ops.dlq.survey import Order, Survey, Targets, known_job
from streamer.ops.dlq.traces import Moved, Traces
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer

CHUNK_RECORDS = 500
CHUNK_S = 0.1
BURST_S = 1.0

OpenCopier = Callable[[str, Sequence[int]], Copier]


def utc_text() -> str:
    """The time now, in UTC, as RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Mover:
    """Executes one order. `open_copier` takes a dead-letter topic and the size limits of the topics written to;
    `progress` is told how many have moved, `waiting` what it waits for; `clock` and `sleep` are in seconds; `time_text`
    is the time in RFC 3339. `tracer` sends a span of the whole, below `parent` where there is one, and of each
    transaction."""

    def __init__(
        self,
        log: Log,
        order: Order,
        decide: Decide,
        targets: Targets,
        open_copier: OpenCopier,
        *,
        progress: Callable[[int], None] = lambda _: None,
        waiting: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        time_text: Callable[[], str] = utc_text,
        tracer: ToolTracer = NO_SPANS,
        parent: TraceParent | None = None,
    ) -> None:
        self.moved = 0
        self._log, self._order, self._decide, self._targets = log, order, decide, targets
        self._open_copier, self._progress, self._clock, self._sleep = open_copier, progress, clock, sleep
        self._time_text, self._waiting = time_text, waiting
        self._beat = Beat(order.signature, clock)
        self._traces = Traces(tracer, order, parent)
        self._before = 0
        self._due = 0.0
        self._left = 0
        rate = order.rate_per_s
        self._chunk = CHUNK_RECORDS if rate is None else max(1, min(CHUNK_RECORDS, round(rate * CHUNK_S)))

    def execute(self, found: Survey) -> int:
        """Move what the survey found and is still open; returns how many.

        Raises RunningError while another job is at one of the topics, StreamerError when something can't be written.
        What was moved by then stays moved, and the same job, started again, goes on from there.
        """
        for topic in (STATE_TOPIC, AUDIT_TOPIC):
            self._targets(topic)
        with self._traces.run(found.stay, lambda: self.moved), read_closed_from_topic(self._log) as closed:
            self._execute(found, closed)
        return self.moved

    def _execute(self, found: Survey, closed: Closed) -> None:
        ensure_free(self._log, closed, self._order.topics, clock=self._clock, sleep=self._sleep, waiting=self._waiting)
        for index, topic in enumerate(self._order.topics):
            last = index == len(self._order.topics) - 1
            copier = self._open_copier(topic, self._targets.limits)
            try:
                catch_up(self._log, closed)
                self._move_topic(copier, topic, found, closed, first=index == 0, last=last)
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, StreamerError) and error.exit_code is ExitCode.FENCED:
                    error = self._named(error, topic, closed)
                else:
                    with suppress(StreamerError):  # the brokers may be away
                        copier.commit([*self._beat.end(), self._audit("stopped", found, outcome=_outcome(error))])
                raise error
            finally:
                copier.close()

    def _named(self, error: StreamerError, topic: str, closed: Closed) -> StreamerError:
        """Two that began in the same moment: the error of the one that was ended, with the name of the other."""
        with suppress(StreamerError):
            catch_up(self._log, closed)
            claim = closed.claims.get(topic)
            if claim is not None and claim.job != self._order.signature.job:
                return RunningError(f"{error} (job {claim.job} of {claim.by})")
        return error

    def _move_topic(
        self, copier: Copier, topic: str, found: Survey, closed: Closed, *, first: bool, last: bool
    ) -> None:
        job = known_job(closed, self._order) or self._job(found)
        outputs = self._beat.begin(topic)
        if first:
            self._before = closed.count(job.job)
            outputs += self._began(job, found)
        copier.commit(outputs)
        if first:
            self._due = self._clock()
        self._left = found.total - self.moved
        with self._log.scan(topic, ends=job.ends[topic]) as scan:
            self._move(
                copier, self._letters(copier, scan, Selector(job.selection, readings=self._log.readings), closed)
            )
        outputs = self._beat.end()
        if last:
            outputs.append(self._audit("ended", found, outcome="done"))
        copier.commit(outputs)

    def _letters(self, copier: Copier, scan: Scan, selector: Selector, closed: Closed) -> Iterator[DeadLetter]:
        for records in scan.batches():
            self._show_life(copier)
            yield from (letter for letter in selector.pick(records) if self._order.wants(letter, closed))

    def _move(self, copier: Copier, letters: Iterable[DeadLetter]) -> None:
        moves: list[Moved] = []
        for letter in letters:
            if len(moves) == self._left:
                break
            decision = self._decide(letter)
            if not isinstance(decision, Move):
                continue
            moves.append((letter, decision))
            if len(moves) == self._chunk:
                self._commit(copier, moves)
                moves = []
        if moves:
            self._commit(copier, moves)

    def _commit(self, copier: Copier, moves: list[Moved]) -> None:
        """Commit when these are due: the rate holds over the whole run, and a slow stretch is caught up by at most a
        second's worth."""
        rate, count = self._order.rate_per_s, len(moves)
        if rate is not None:
            now = self._clock()
            self._due = max(self._due, now - BURST_S) + count / rate
            while self._due > now:
                self._sleep(min(self._due - now, BEAT_S))
                self._show_life(copier)
                now = self._clock()
        outputs = [output for _, move in moves for output in move.outputs]
        with self._traces.transaction(moves):
            copier.commit([*outputs, *self._beat.due()])
        self.moved += count
        self._left -= count
        self._progress(self.moved)

    def _job(self, found: Survey) -> Job:
        sign, order = self._order.signature, self._order
        return Job(sign.job, order.action, sign.by, sign.time, dict(order.wanted), order.selection, found.ends)

    def _show_life(self, copier: Copier) -> None:
        if outputs := self._beat.due():
            copier.commit(outputs)

    def _began(self, job: Job, found: Survey) -> list[Output]:
        key, value = job_record(job)
        return [(STATE_TOPIC, -1, key, value, []), self._audit("began", found)]

    def _audit(self, event: Literal["began", "ended", "stopped"], found: Survey, *, outcome: str = "") -> Output:
        order, sign, count = self._order, self._order.signature, self._before + self.moved
        return audit_output(
            Audit(
                event,
                order.action,
                sign.job,
                sign.by,
                self._time_text(),
                dict(order.wanted),
                count,
                found.stay,
                order.rate_per_s,
                found.digest,
                outcome,
                self._before + found.total,
            )
        )


def _outcome(error: BaseException) -> str:
    """Why it stopped, in words that quote no event."""
    return str(error) if isinstance(error, StreamerError) else f"interrupted ({type(error).__name__})"
