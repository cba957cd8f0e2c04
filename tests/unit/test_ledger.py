"""The ledger under every order of events: what may be settled is a finished prefix, and nothing gets lost in it."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamer.core.pipeline.ledger import Freed, Ledger
from streamer.core.pipeline.protocol import Settle
from streamer.core.record import Answer, MicroBatch, Segment, TopicPartition
from tests.records import FakeRecord

PARTITIONS = st.sampled_from([("in", 0), ("in", 1), ("in", 2)])
ANSWER = Answer(b"{}")


class LedgerMachine(RuleBasedStateMachine):
    """Partitions come and go, records finish in any order, plans succeed, fail, or end who knows how."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.epoch = 0
        self.owned: dict[TopicPartition, int] = {}
        self.leaving: set[TopicPartition] = set()
        self.committed: dict[TopicPartition, int] = {}
        self.position: dict[TopicPartition, int] = {}
        self.flying: list[Segment] = []
        self.plan: Settle | None = None
        self.taken = 0
        self.freed = 0

    @rule(key=PARTITIONS)
    def assign(self, key: TopicPartition) -> None:
        """It is read from its committed offset on, under a new epoch."""
        self.epoch += 1
        self.owned[key] = self.epoch
        self.leaving.discard(key)
        self.position[key] = self.committed.get(key, 0)
        self._free(self.ledger.assign({key: self.epoch}))

    @rule(key=PARTITIONS, gaps=st.lists(st.integers(1, 3), min_size=1, max_size=5))
    def take(self, key: TopicPartition, gaps: list[int]) -> None:
        """The next records, at offsets with gaps; of a partition that is not ours they are dropped."""
        offsets = []
        at = self.position.get(key, 0)
        for gap in gaps:
            offsets.append(at)
            at += gap
        records = [FakeRecord(b"", topic=key[0], partition=key[1], offset=offset) for offset in offsets]
        segment = Segment(*key, self.owned.get(key, 0), list(records), [None] * len(records), [None] * len(records))
        segment.open = len(records)
        self.taken += len(records)
        kept, freed = self.ledger.add(MicroBatch(1, [segment], 1, 1, 0))
        self._free(freed)
        assert bool(kept) == (key in self.owned and key not in self.leaving)
        if kept:
            self.position[key] = at
            self.flying.append(segment)

    @precondition(lambda self: any(segment.open for segment in self.flying))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any record gets its outcome."""
        segment = data.draw(st.sampled_from([one for one in self.flying if one.open]))
        index = data.draw(st.sampled_from([place for place, one in enumerate(segment.outcomes) if one is None]))
        segment.outcomes[index] = ANSWER
        segment.open -= 1

    @precondition(lambda self: self.plan is None)
    @rule()
    def make_plan(self) -> None:
        """A plan takes the finished prefix of every partition that is not settled yet: all of it, and no more."""
        self.plan = plan = self.ledger.plan(1)
        runs = plan.runs if plan else []
        for key, epoch in self.owned.items():
            planned = [
                record.offset()
                for run in runs
                if (run.segment.topic, run.segment.partition) == key
                for record in run.segment.records[run.first : run.last]
            ]
            if planned or key not in self.leaving:  # one that leaves has one plan at most
                assert planned == self._finished_prefix(key)
            if plan and planned:
                assert (plan.offsets[key], plan.epochs[key]) == (planned[-1] + 1, epoch)

    @precondition(lambda self: self.plan is not None)
    @rule(ending=st.sampled_from(["settled", "aborted", "unclear, and done", "unclear, and not done"]))
    def end_plan(self, ending: str) -> None:
        """A plan whose partitions went away meanwhile is refused by the sink."""
        plan, self.plan = self.plan, None
        assert plan is not None
        mine = all(self.owned.get(key) == epoch for key, epoch in plan.epochs.items())
        if mine and ending in ("settled", "unclear, and done"):
            self.committed.update(plan.offsets)
        if mine and ending == "settled":
            self._free(self.ledger.settled(plan))
        else:
            found = {key: self.committed.get(key, 0) for key in plan.offsets} if ending.startswith("unclear") else {}
            self._free(self.ledger.unsettled(plan, found))

    @rule(key=PARTITIONS)
    def leave(self, key: TopicPartition) -> None:
        """It is about to go."""
        if key in self.owned:
            self.leaving.add(key)
        self._free(self.ledger.leave([key]))

    @rule(key=PARTITIONS)
    def drop(self, key: TopicPartition) -> None:
        """It is gone."""
        self.owned.pop(key, None)
        self.leaving.discard(key)
        self._free(self.ledger.drop([key]))

    @invariant()
    def what_is_not_freed_is_in_flight(self) -> None:
        """The budget comes back to the last record, once."""
        held = sum(len(one.records) for partition in self.ledger.partitions.values() for _, one in partition.segments)
        assert self.taken == self.freed + held

    def _finished_prefix(self, key: TopicPartition) -> list[int]:
        """Offsets from the committed one up to the first record without outcome."""
        places = [
            (record.offset(), outcome)
            for one in self.flying
            if (one.topic, one.partition) == key
            for record, outcome in zip(one.records, one.outcomes, strict=True)
            if record.offset() >= self.committed.get(key, 0)
        ]
        return [offset for offset, _ in takewhile(lambda place: place[1] is not None, places)]

    def _free(self, freed: Freed) -> None:
        self.freed += freed.records
        held = {id(one) for partition in self.ledger.partitions.values() for _, one in partition.segments}
        self.flying = [one for one in self.flying if id(one) in held]


LedgerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.promise(4)
class TestLedger(LedgerMachine.TestCase):  # type: ignore[misc, valid-type]
    """Offsets never pass unfinished work."""
