"""Records whose schema is not known yet: they keep their place, and nobody else's records wait for them."""

from __future__ import annotations

import pytest

from streamer.core.events.codec import Codec
from streamer.core.events.framed import SchemaName
from streamer.core.pipeline.flow import LARGE_COPIES
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import (
    Dispatch,
    EndReached,
    Finish,
    Grant,
    LearnSchemas,
    Lost,
    MicroBatchDone,
    PauseReading,
    Release,
    Revoking,
    SchemasLearned,
    Settled,
    Stop,
    Tick,
)
from streamer.core.record import Headers, Record, TopicPartition
from streamer.errors import Code, DataFailure, ExitCode
from tests.records import FakeRecord
from tests.unit.pipeline_kit import Kit, event, segment, taken

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def framed(text: str, number: int) -> bytes:
    return b"\0" + number.to_bytes(4) + event(text)


class Registry:
    """Opens values of the schemas that it was told of; 9 is none."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()

    def knows(self, name: SchemaName) -> bool:
        return name[1] in self.known

    def open(self, value: bytes, headers: Headers | None, topic: str) -> bytes | DataFailure:
        if not self.knows((topic, value[:5])):
            raise AssertionError("opened before its schema is known")
        return DataFailure(Code.DECODE_SCHEMA, "none") if value[4] == 9 else value[5:]

    def learns(self, *numbers: int) -> SchemasLearned:
        names = [b"\0" + number.to_bytes(4) for number in numbers]
        self.known.update(names)
        return SchemasLearned([("in", name) for name in names])


class SealedKit(Kit):
    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        codec = Codec("p", schemas=self.registry)
        fresh = Pipeline(Policy("p"), codec)
        self.pipeline._codec, self.pipeline.seals = codec, fresh.seals


def waiting(kit: Kit) -> dict[TopicPartition, int]:
    return {place: sealed.segment.records[0].offset() for place, sealed in kit.pipeline.seals.partitions.items()}


def names(kit: Kit) -> list[list[int]]:
    return [sorted(name[4] for _, name in command.names) for command in kit.of(LearnSchemas)]


def test_a_partition_keeps_its_order_and_others_go_on() -> None:
    """What stands behind a record of an unknown schema is computed, and settled once that record is."""
    kit = SealedKit()
    kit.feed(kit.registry.learns(1))
    kit.feed(
        taken(1, segment([framed("a", 2), framed("b", 1), framed("c", 9)]), segment([framed("d", 1)], partition=1))
    )
    kit.feed(taken(2, segment([framed("e", 1)], first=3)))
    assert names(kit) == [[2, 9]]
    for work in kit.of(Dispatch):
        kit.answer(work)
    assert [plan.offsets for plan in kit.settles()] == [{("in", 1): 1}]
    kit.feed(Settled(kit.settles()[-1].settle))
    assert waiting(kit) == {("in", 0): 0}
    kit.feed(kit.registry.learns(2))
    assert names(kit) == [[2, 9]]
    kit.feed(kit.registry.learns(9))
    kit.answer(kit.last_work())
    plan = kit.settles()[-1]
    assert plan.offsets == {("in", 0): 4}
    assert [type(one).__name__ for run in plan.runs for one in run.segment.outcomes] == [
        "Answer",
        "Answer",
        "DataFailure",
        "Answer",
    ]
    kit.feed(Settled(plan.settle))
    assert kit.pipeline.ledger.empty
    assert kit.pipeline.flow.ended_records == kit.pipeline.flow.taken_records == 5


def test_each_schema_is_asked_for_once() -> None:
    """However many segments wait for it, and for how many others; what is not known any more is asked for again."""
    kit = SealedKit()
    for number in range(30):
        kit.feed(taken(number + 1, segment([framed("a", 1), framed("b", 2 + number % 3)], first=2 * number)))
    assert names(kit) == [[1, 2], [3], [4]]
    kit.feed(kit.registry.learns(2), kit.registry.learns(3))
    assert waiting(kit) == {("in", 0): 0}
    first = kit.registry.learns(1)
    kit.registry.known.remove(b"\0\0\0\0\3")
    kit.feed(first)
    assert names(kit)[3:] == [[3]]
    assert waiting(kit) == {("in", 0): 2}
    kit.feed(kit.registry.learns(4), kit.registry.learns(3))
    assert names(kit)[4:] == []
    assert waiting(kit) == {}


def test_other_partitions_go_on_however_many_records_wait() -> None:
    """What waits for a schema takes of the byte budget, and nothing of what may be open for the workers."""
    kit = SealedKit()
    kit.feed(kit.registry.learns(1))
    kit.feed(taken(1, segment([framed("a", 1)], partition=1)))
    kit.answer(kit.last_work())
    flow = kit.pipeline.flow
    for number in range(9):
        kit.feed(taken(2 + number, segment([framed("b", 2)] * 1000, first=1000 * number)))
    assert kit.pipeline.seals.records == 9000
    assert not flow.holds
    assert kit.of(Grant)[-1].records > flow.taken_records + 1000
    kit.feed(kit.registry.learns(2))
    assert kit.pipeline.seals.records == 0
    assert flow.holds
    kit.answer(kit.last_work())
    assert not flow.holds


def test_a_partition_that_waits_leaves_the_budget_to_the_others() -> None:
    """Nothing more of it is read once what waits takes a quarter of the budget, until it has its schema."""
    kit = SealedKit()
    kit.feed(kit.registry.learns(1))
    segments = [segment([framed("b", 2)], first=number) for number in range(3)]
    segments[0].size_bytes = segments[1].size_bytes = kit.pipeline.policy.budget_bytes // 5
    for number, one in enumerate(segments, 1):
        kit.feed(taken(number, one))
        assert [pause.partitions for pause in kit.of(PauseReading)] == [{("in", 0)}] * (number > 1)
    late = segment([framed("b", 2)], first=3)  # it was taken already
    late.size_bytes = kit.pipeline.policy.budget_bytes
    kit.feed(taken(4, late))
    assert not kit.pipeline.flow.holds
    kit.feed(taken(5, segment([framed("a", 1)], partition=1)))
    kit.answer(kit.last_work())
    assert not kit.pipeline.flow.holds
    kit.feed(kit.registry.learns(2))
    assert kit.pipeline.seals.size_bytes == 0
    assert [pause.partitions for pause in kit.of(PauseReading)] == [{("in", 0)}, set()]


def test_what_stands_behind_a_record_that_waits_leaves_the_budget_to_the_others() -> None:
    """It needs no schema and has its answers, but can't be settled either; so it counts with what waits."""
    kit = SealedKit()
    kit.feed(kit.registry.learns(1))
    budget = kit.pipeline.policy.budget_bytes
    kit.feed(taken(1, segment([framed("b", 2)])))
    for number in range(1, 4):
        one = segment([framed(f"a{number}", 1)], first=number)
        one.size_bytes = budget // LARGE_COPIES // 6
        kit.feed(taken(1 + number, one))
        kit.answer(kit.last_work())
        kit.feed(Tick())
        assert [pause.partitions for pause in kit.of(PauseReading)] == [{("in", 0)}] * (number > 1)
    late = segment([framed("c", 1)], first=4)  # it was taken already
    late.size_bytes = budget // LARGE_COPIES
    kit.feed(taken(5, late))
    kit.answer(kit.last_work())
    assert kit.pipeline.flow.holds
    kit.feed(Tick())
    assert not kit.pipeline.flow.holds
    kit.feed(kit.registry.learns(2))
    kit.answer(kit.last_work())
    kit.feed(Settled(kit.settles()[-1].settle), Tick())
    assert kit.pipeline.seals.behind_bytes == 0
    assert [pause.partitions for pause in kit.of(PauseReading)] == [{("in", 0)}, set()]
    assert kit.pipeline.flow.in_flight_bytes == 0


@pytest.mark.parametrize("share", [0.4, 0.5, 0.6, 1.0])
def test_a_source_that_held_goes_on_once_the_others_are_settled(share: float) -> None:
    """It wants half of the budget for that, however much of it waits, and by whatever steps the rest is freed."""
    kit = SealedKit()
    kit.feed(kit.registry.learns(1))
    budget = kit.pipeline.policy.budget_bytes
    waits = segment([framed("b", 2)])
    waits.size_bytes = int(share * budget)
    kit.feed(taken(1, waits))
    flow = kit.pipeline.flow
    number = 0
    while not flow.holds:
        if number:
            kit.answer(kit.last_work())
        number += 1
        one = segment([framed(f"a{number}", 1)], partition=1, first=number)
        one.size_bytes = budget // 60
        kit.feed(taken(1 + number, one))
    segments = kit.pipeline.ledger.partitions["in", 1].segments
    while len(segments) > 1:
        kit.feed(Settled(kit.settles()[-1].settle))
    kit.answer(kit.last_work())  # too little to be worth a grant
    kit.feed(Settled(kit.settles()[-1].settle))
    assert not segments
    assert kit.of(Grant)[-1].size_bytes - flow.taken_bytes >= budget // 2


def test_a_partition_that_leaves_takes_along_what_waits() -> None:
    """Nothing of it comes up later, and its records no longer count as open."""
    kit = SealedKit()
    kit.feed(taken(1, segment([framed("a", 2)] * 3), segment([framed("b", 2)], partition=1)))
    kit.feed(Lost(frozenset({("in", 0)})))
    assert kit.pipeline.flow.ended_records == 3
    assert waiting(kit) == {("in", 1): 0}
    kit.feed(kit.registry.learns(2))
    kit.answer(kit.last_work())
    assert kit.settles()[-1].offsets == {("in", 1): 1}
    kit.feed(Settled(kit.settles()[-1].settle))
    assert len(kit.of(MicroBatchDone)) == 1
    assert kit.pipeline.flow.ended_records == 4


def test_a_partition_is_given_away_and_a_stop_ends_while_records_wait() -> None:
    """Neither waits for a registry."""
    kit = SealedKit()
    kit.feed(taken(1, segment([framed("a", 2)]), segment([framed("b", 2)], partition=1)))
    kit.feed(Revoking(7, frozenset({("in", 0)})))
    assert [one.epoch for one in kit.of(Release)] == [7]
    assert waiting(kit) == {("in", 1): 0}
    kit.feed(Stop(kit.now + 10))
    assert [one.exit_code for one in kit.of(Finish)] == [ExitCode.DONE]


def test_a_run_to_the_end_waits_for_the_schema() -> None:
    kit = SealedKit()
    kit.feed(taken(1, segment([framed("a", 2)])), EndReached())
    assert not kit.of(Finish)
    kit.feed(kit.registry.learns(2))
    kit.answer(kit.last_work())
    kit.feed(Settled(kit.settles()[-1].settle))
    assert kit.of(Finish)


def test_a_run_to_the_end_does_not_wait_for_ever() -> None:
    """Five minutes after the registry last gave a schema it ends, and names the first record that waits."""
    kit = SealedKit()
    kit.feed(taken(1, segment([framed("a", 2)]), segment([framed("b", 3)], partition=1)), EndReached())
    kit.now += 299
    kit.feed(kit.registry.learns(2))
    kit.answer(kit.last_work())
    kit.feed(Settled(kit.settles()[-1].settle))
    kit.now += 299
    kit.feed(Tick())
    assert not kit.of(Finish)
    kit.now += 2
    kit.feed(Tick())
    (end,) = kit.of(Finish)
    assert end.exit_code is ExitCode.DEPENDENCY
    assert "for which 1 record had to wait, from in/1/0 on; `streamer doctor`" in end.message


@pytest.mark.parametrize("until_end", [True, False])
def test_nor_does_it_where_the_end_can_not_be_read(until_end: bool) -> None:
    """What waits may keep its partition from being read to the end. As long as others go on it is not given up."""
    kit = SealedKit()
    kit.pipeline.policy = Policy("p", until_end=until_end)
    kit.feed(kit.registry.learns(1))
    kit.feed(taken(1, segment([framed("a", 2)])))
    kit.now += 299
    kit.feed(taken(2, segment([framed("a", 1)], partition=1)))
    kit.now += 301
    kit.feed(Tick())
    assert not kit.of(Finish)
    kit.answer(kit.last_work())
    assert [end.exit_code for end in kit.of(Finish)] == [ExitCode.DEPENDENCY] * until_end


def test_spans_of_what_waited_are_its_own() -> None:
    """Records of one micro-batch that are decoded at different times have different spans."""
    kit = SealedKit()
    kit.pipeline._span_budget.__init__(100)  # type: ignore[misc]
    kit.feed(kit.registry.learns(1))
    segments = []
    for partition, number in ((0, 1), (1, 2)):
        one = segment([None], partition=partition)
        one.records = [FakeRecord(framed("a", number), headers=[("traceparent", TRACE)], partition=partition)]
        segments.append(one)
    kit.feed(taken(1, *segments))
    first = segments[0].spans
    kit.feed(kit.registry.learns(2))
    assert first is not None and segments[1].spans is not None
    assert segments[0].spans == first
    assert first != segments[1].spans


def test_headers_that_can_not_be_read_are_asked_once() -> None:
    """To ask such a message again would end the process: also where its segment waited."""

    class Bad(FakeRecord):
        asked = 0

        def headers(self) -> Headers | None:
            Bad.asked += 1
            raise SystemError

    codec = Codec("p", schemas=(registry := Registry()))
    one = segment([None, None])
    records: list[Record] = [Bad(framed("a", 2)), FakeRecord(framed("b", 2))]
    one.records = records
    assert codec.unknown(one) == codec.unknown(one) == [("in", b"\0\0\0\0\2")]
    registry.learns(2)
    codec.decode(one)
    assert Bad.asked == 1
    failure, second = one.outcomes[0], one.events[1]
    assert isinstance(failure, DataFailure)
    assert (failure.code, second and second.text) == (Code.DECODE_UTF8, "b")
