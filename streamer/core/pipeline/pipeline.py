"""The pipeline: what happens to every record, decided here and done elsewhere.

A micro-batch goes through these stations, and nothing in here waits for any of them:

    taken → decoded → known answer?  in memory → under way (single flight) → in the shared cache → computed
          → all outcomes of a partition's next records there? → planned → settled

`handle(input, now)` takes one fact and returns the commands that follow. The work is per segment or per plan; per
record only in the loops of decoding, keying and joining flights.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Protocol

from streamer.core.events.framed import SchemaName
from streamer.core.pipeline.answering import Answering
from streamer.core.pipeline.breaker import Breaker
from streamer.core.pipeline.fleet import Fleet
from streamer.core.pipeline.flights import Flight, Flights
from streamer.core.pipeline.flow import LARGE_COPIES, LARGE_RECORD_BYTES, OPEN_PER_WORKER, Flow
from streamer.core.pipeline.ledger import Freed, Ledger
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import (
    Assigned,
    CacheAnswered,
    Command,
    EncodeStarted,
    EndReached,
    Finish,
    ForwardDone,
    ForwardStarted,
    Input,
    Join,
    LearnSchemas,
    Lost,
    MicroBatchDone,
    ModelCard,
    OutputLimit,
    Release,
    Revoking,
    Rewind,
    SchemasLearned,
    Settle,
    Settled,
    SinkFailed,
    SourceFailed,
    Stop,
    Taken,
    Tick,
    Unsettled,
    WorkerHolds,
    WorkerLost,
    WorkerReady,
)
from streamer.core.pipeline.sealed import Seals
from streamer.core.pipeline.settling import Settling
from streamer.core.ratelimit import TokenBucket
from streamer.core.record import MicroBatch, Segment, TopicPartition
from streamer.core.traceparent import mark_spans, record_span_id
from streamer.errors import ExitCode, FailureClass


class Codec(Protocol):
    """Fills a segment's events, outcomes and traces from its records, once nothing is unknown that this takes."""

    def unknown(self, segment: Segment) -> list[SchemaName]: ...

    def decode(self, segment: Segment) -> None: ...


class Phase(Enum):
    """Where the pipeline is in its life."""

    LOADING = auto()  # the workers load; we are not in the group
    RUNNING = auto()
    ENDING = auto()  # `--until-end`: all is taken, the rest is finished
    STOPPING = auto()  # asked to stop: what workers hold is finished, the rest is dropped
    FINISHED = auto()


class Pipeline:
    """One pipeline's state and its decisions."""

    def __init__(self, policy: Policy, codec: Codec) -> None:
        self.policy = policy
        self.phase = Phase.LOADING
        self.ledger = Ledger()
        self.fleet = Fleet(policy.workers, policy.lease_s, policy.load_s)
        self.flow = Flow(policy.budget_bytes, policy.workers * OPEN_PER_WORKER)
        self.settling = Settling(self.ledger, Breaker(policy.breaker))
        self.answering = Answering(policy, self.fleet, self.flow)
        self.spans_capped = 0
        self._span_budget = TokenBucket(policy.max_spans_per_s)
        self.seals = Seals(codec.unknown, policy.budget_bytes)
        self._codec = codec
        self._revoking: dict[int, Revoking] = {}
        self._number = 0
        self._deadline = float("inf")
        self._unread: list[str] = []
        self._commands: list[Command] = []

    @property
    def card(self) -> ModelCard | None:
        """The model that all answers come from; None while no worker has loaded it."""
        return self.answering.card

    @property
    def flights(self) -> Flights:
        """The computations that records wait for."""
        return self.answering.flights

    def handle(self, fact: Input, now: float) -> list[Command]:
        """Take one fact in; returns what is to be done, in this order. `now` is monotonic, in seconds."""
        if self.phase is Phase.FINISHED:
            return []
        self._commands = []
        match fact:
            case Taken():
                self._taken(fact.batch, now)
            case ForwardDone():
                self._commands += self.answering.computed(fact, now)
            case WorkerHolds():
                self.fleet.holds(fact)
            case ForwardStarted():
                self.fleet.started(fact, now)
            case EncodeStarted():
                self.fleet.encodes(fact, now)
            case CacheAnswered():
                self.answering.cached(fact)
            case SchemasLearned():
                self._schemas_learned(fact, now)
            case Settled():
                self._settled(fact, now)
            case Unsettled():
                self._unsettled(fact, now)
            case Assigned():
                self._assigned(fact)
            case Revoking():
                self._revoking[fact.epoch] = fact
                self._dropped(self.ledger.leave(fact.partitions))
            case Lost():
                self._dropped(self.ledger.drop(fact.partitions))
            case WorkerReady():
                self._worker_ready(fact)
            case WorkerLost():
                self._worker_lost(fact, now)
            case EndReached():
                if self.phase is Phase.RUNNING:
                    self.phase, self._unread = Phase.ENDING, fact.unread
            case OutputLimit():
                self.answering.limited(fact)
            case Stop():
                self._stop(fact)
            case SourceFailed() | SinkFailed():
                self._finish(fact.exit_code, fact.message)
            case Tick():
                self.flow.measure(now)
                self.seals.weigh(self.ledger.partitions)
        if self.phase is not Phase.FINISHED:
            self._advance(now)
        return self._commands

    # --- partitions ----------------------------------------------------------------------------------------------

    def _assigned(self, fact: Assigned) -> None:
        """Own partitions. One of them may be among those that we have not released yet: the source waited as long as it
        may, let go, and got it back. Its release, once it comes, must not take what is ours again."""
        for epoch, revoking in self._revoking.items():
            self._revoking[epoch] = Revoking(epoch, revoking.partitions - fact.epochs.keys())
        self._dropped(self.ledger.assign(fact.epochs))

    # --- intake --------------------------------------------------------------------------------------------------

    def _taken(self, batch: MicroBatch, now: float) -> None:
        self.flow.took(sum(len(s.records) for s in batch.segments), sum(s.size_bytes for s in batch.segments))
        kept, freed = self.ledger.add(batch)
        if freed.records:
            self.flow.ended_records += freed.records
            self._freed(freed)
        self.policy.sampler.begin(batch, traced=self.policy.traced)
        self._open(batch, kept, now)

    def _open(self, batch: MicroBatch, segments: list[Segment], now: float) -> None:
        """Decode those segments whose schemas are known, ask for the others'."""
        ready, wanted = self.seals.seal(batch, segments, now)
        self._decode(batch, ready, now)
        if wanted:
            self._commands.append(LearnSchemas(wanted))

    def _schemas_learned(self, fact: SchemasLearned, now: float) -> None:
        for batch, segment in self.seals.take(fact.names, now):
            self._open(batch, [segment], now)

    def _decode(self, batch: MicroBatch, segments: list[Segment], now: float) -> None:
        fresh: list[Flight] = []
        counted_bytes = 0
        for segment in segments:
            counted_bytes -= segment.size_bytes
            self._codec.decode(segment)
            if segment.size_bytes > LARGE_RECORD_BYTES * len(segment.records):
                segment.size_bytes *= LARGE_COPIES
            counted_bytes += segment.size_bytes
            self.flow.ended_records += len(segment.records) - segment.open
            if segment.open:
                fresh += self.answering.join(segment)
        if segments:
            self.flow.weigh_taken(sum(len(segment.records) for segment in segments), counted_bytes)
        if any(segment.traces is not None for segment in segments):
            self._mark_spans(batch, segments, now)
        if fresh:
            self._commands += self.answering.look_up(fresh)

    def _mark_spans(self, batch: MicroBatch, segments: list[Segment], now: float) -> None:
        """Give the sampled records of these segments their own spans, as far as the cap allows."""
        self.policy.sampler.decide(segments)
        traces = [trace for segment in segments for trace in segment.traces or () if trace is not None]
        sampled = sum(trace.sampled for trace in traces)
        if sampled:
            if len(segments) < len(batch.segments):  # some wait, or waited: each part needs ids of its own
                span_id = record_span_id(batch.span_id, -2 - batch.segments.index(segments[0]))
                batch = replace(batch, segments=segments, span_id=span_id)
            _, capped = mark_spans(batch, self._span_budget.take(sampled, now))
            self.spans_capped += capped

    # --- workers -------------------------------------------------------------------------------------------------

    def _worker_ready(self, fact: WorkerReady) -> None:
        self.fleet.ready(fact)
        if self.card is None:
            self.answering.serve(fact.model)
            if self.phase is Phase.LOADING:
                self.phase = Phase.RUNNING
            self._commands.append(Join(fact.model))
        elif fact.model.revision != self.card.revision:
            # Nothing is published of it: all results of a run carry the first card's revision.
            self._finish(
                ExitCode.DEPENDENCY,
                f"model {self.card.name} changed while the pipeline ran (revision "
                f"{self.card.revision[:12]} became {fact.model.revision[:12]} when worker {fact.worker} started): "
                "start it again to serve the new one",
            )
        else:
            self.answering.knows(fact.worker, fact.model)

    def _worker_lost(self, fact: WorkerLost, now: float) -> None:
        """A model that can't be served ends the run. One that was served before, by any worker, is tried again: its
        disk or its memory may be full for a while."""
        if fact.failure is FailureClass.CODE and (self.card is None or self.fleet.workers[fact.worker].served):
            self._finish(fact.exit_code, fact.message)
            return
        for flight, verdict in self.fleet.lost(fact, now):
            self.flow.ended_records += self.flights.land([flight], [verdict])
        if (end := self.fleet.hopeless) is not None:
            self._finish(*end)

    # --- settling ------------------------------------------------------------------------------------------------

    def _settled(self, fact: Settled, now: float) -> None:
        plan, unblocked = self.settling.settled(fact, now)
        self._freed(self.ledger.settled(plan))
        if unblocked:
            self._read_again(unblocked)

    def _unsettled(self, fact: Unsettled, now: float) -> None:
        plan = self.settling.unsettled(fact, now)
        if fact.restart:
            self._read_again(frozenset(self.ledger.partitions) & plan.offsets.keys())
            return
        # A probe whose commit got no answer may be durable all the same: its partition goes on.
        blocks = self.ledger.blocks
        passed = frozenset(key for key, block in blocks.items() if fact.committed.get(key, 0) > block.offset)
        self._freed(self.ledger.unsettled(plan, fact.committed))
        if fact.refusals:
            self._dropped(self.settling.refused(plan, fact, now))
        if passed:
            self._read_again(passed)

    def _read_again(self, partitions: frozenset[TopicPartition]) -> None:
        if self.phase is Phase.ENDING:
            self.phase = Phase.RUNNING  # the source says again when all is taken
        self._dropped(self.ledger.drop(partitions))
        self._commands.append(Rewind(partitions))

    def _plan(self, now: float) -> None:
        match self.settling.plan(self._number + 1, now):
            case Settle() as plan:
                self._number = plan.settle
                self._commands.append(plan)
            case Finish() as finish:
                self._finish(finish.exit_code, finish.message)

    def _dropped(self, freed: Freed) -> None:
        self.fleet.some_unwanted = True
        self.flow.ended_records += self.seals.forget_dropped()
        self._freed(freed)

    def _freed(self, freed: Freed) -> None:
        self.flow.freed_bytes += freed.size_bytes
        self._commands.extend(MicroBatchDone(batch) for batch in freed.batches)

    # --- leaving -------------------------------------------------------------------------------------------------

    def _stop(self, fact: Stop) -> None:
        if self.phase is Phase.LOADING:
            self._finish(ExitCode.DONE, "stopped before the workers were ready")
            return
        self.phase = Phase.STOPPING
        self._deadline = min(self._deadline, fact.deadline)
        self._commands.append(self.flow.hold())
        self.answering.cancel()

    def _finish(self, exit_code: ExitCode, message: str = "") -> None:
        self.phase = Phase.FINISHED
        self._commands.append(Finish(exit_code, message))

    def _advance(self, now: float) -> None:
        """What may go on after any fact: plan, release, lend, grant, finish."""
        self._plan(now)
        if self.phase is Phase.FINISHED:
            return
        if self._revoking:
            self._release()
        self._commands.extend(self.fleet.supervise(now))
        if self.phase is not Phase.STOPPING:
            commands, unwanted = self.fleet.dispatch(now, self.flow.rate_per_s)
            self._commands.extend(commands)
            self.flow.ended_records += self.flights.cancel(unwanted)
            if (pause := self.seals.pause()) is not None:
                self._commands.append(pause)  # before the others get more, of which it would take its part
            stuck_bytes = self.seals.size_bytes + self.seals.behind_bytes
            if self.phase is not Phase.LOADING and (grant := self.flow.grant(self.seals.records, stuck_bytes)):
                self._commands.append(grant)
        if self.phase is Phase.ENDING and self.ledger.empty and self.settling.under_way is None:
            unread = "; ".join(self._unread)
            self._finish(ExitCode.HALTED if unread else ExitCode.DONE, unread and f"not all was read: {unread}")
        elif (end := self._hopeless(now)) is not None:
            self._finish(end.exit_code, end.message)
        elif self.phase is Phase.STOPPING:
            if self.settling.under_way is None and self.fleet.held == 0 and not self.settling.rests_until:
                self._finish(ExitCode.DONE)
            elif now >= self._deadline:
                late = self.settling.under_way is not None
                self._finish(
                    ExitCode.DRAIN_DEADLINE if late else ExitCode.DONE,
                    "a transaction did not end within stop_deadline_s; the broker aborts it" if late else "",
                )

    def _release(self) -> None:
        """Let revoked partitions go once their last plan was made and no plan holds them."""
        for epoch, revoking in list(self._revoking.items()):
            if self.settling.holds(revoking.partitions) or self.ledger.awaits_plan(revoking.partitions):
                continue
            self._dropped(self.ledger.drop(revoking.partitions))
            del self._revoking[epoch]
            self._commands.append(Release(epoch))

    def _hopeless(self, now: float) -> Finish | None:
        """How `--until-end` ends where what is left can't be done. Partitions that wait for schemas may not have been
        read to their end."""
        if self.phase is Phase.ENDING:
            return self.settling.hopeless(now) or self.seals.hopeless(now)
        if not self.policy.until_end or self.phase is not Phase.RUNNING:
            return None
        others = self.flow.taken_records - self.flow.ended_records > self.seals.records
        return None if others else self.seals.hopeless(now)
