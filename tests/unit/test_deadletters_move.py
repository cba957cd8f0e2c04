"""Moving dead letters, with topics in memory: whatever is killed, nothing moves twice and nothing stays behind."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.deadletters.audit import AUDIT_TOPIC, Audit
from streamer.core.deadletters.destinations import Destinations
from streamer.core.deadletters.letter import Place
from streamer.core.deadletters.replay import Mark, Replay, Signature
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.core.record import Record
from streamer.errors import Code, ConfigurationError, ExitCode, UsageError
from streamer.ops.dlq.audits import Audits
from streamer.ops.dlq.claims import LAPSE_S, Beat, RunningError
from streamer.ops.dlq.find import find, letter_at, read_closed
from streamer.ops.dlq.move import CHUNK_RECORDS, Mover
from streamer.ops.dlq.survey import Order, Survey, Targets, survey
from tests.records import FakeRecord
from tests.unit.deadletters_kit import FakeTarget, FencedError, Killed, MemoryCopier, MemoryLog, letter, ours

TOPICS = ["in.dlq", "other.dlq"]


def log_with(*records: Record, targets: Sequence[str] = ("in", STATE_TOPIC, AUDIT_TOPIC)) -> MemoryLog:
    log = MemoryLog({topic: [] for topic in (*TOPICS, "in", "else", STATE_TOPIC, AUDIT_TOPIC)})
    log.targets = {topic: FakeTarget() for topic in targets}
    for record in records:
        log.topics[record.topic()].append(record)
    return log


def order(job: str = "j", action: str = "replay", **fields: Any) -> Order:
    selection = fields.pop("selection", Selection())
    wanted = {"filter": {"codes": selection.codes}, "most": fields.get("most")}
    topics = fields.pop("topics", TOPICS)
    return Order(action, topics, selection, Signature(job, "me@here", "2026-11-24T10:00:00Z"), wanted, **fields)


class Bench:
    """One start of a job on a log, with a clock that only sleeping moves."""

    def __init__(
        self,
        log: MemoryLog,
        what: Order,
        dies_at: int = -1,
        lands: bool = False,
        chunk: int = 2,
        readers: Sequence[str] = ("in",),
    ) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.on_sleep: Callable[[], object] = lambda: None
        self.progress: list[tuple[float, int]] = []
        self.targets = Targets(log)
        self.decide = Replay(
            what.signature, self.targets.find, Destinations({topic: frozenset({"p", *TOPICS}) for topic in readers})
        )
        self.found: Survey = survey(log, what, self.decide)
        self.mover = Mover(
            log,
            what,
            self.decide,
            self.targets,
            functools.partial(MemoryCopier, log, dies_at=dies_at, lands=lands),
            progress=lambda moved: self.progress.append((self.now, moved)),
            waiting=self.told.append,
            clock=lambda: self.now,
            sleep=self._sleep,
            time_text=lambda: "2026-11-24T11:00:00Z",
        )
        if what.rate_per_s is None:
            self.mover._chunk = chunk

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.on_sleep()

    def execute(self) -> int:
        return self.mover.execute(self.found)


def origins(log: MemoryLog, topic: str = "in") -> list[tuple[int, int]]:
    """Origin partition and offset of what was replayed, in the order of writing."""
    found = []
    for record in log.topics[topic]:
        headers = dict(record.headers() or [])
        assert headers["streamer.origin.partition"] == b"%d" % record.partition()
        found.append((record.partition(), int(headers["streamer.origin.offset"] or b"")))
    return found


def audits(log: MemoryLog) -> list[Audit]:
    return [msgspec.json.decode(record.value() or b"", type=Audit) for record in log.topics[AUDIT_TOPIC]]


def running(log: MemoryLog) -> list[str]:
    """The topics with a claim that has not ended."""
    with read_closed(log) as closed:
        return list(closed.claims)


def open_offsets(log: MemoryLog, *topics: str) -> list[int]:
    with read_closed(log) as closed:
        return [each.place.offset for each in find(log, topics, Selection(), closed)]


letters = st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(0, 3)), min_size=1, max_size=25)
kills = st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=6)


@pytest.mark.case(38)
@pytest.mark.promise(9)
@settings(deadline=None)
@given(letters, kills, st.none() | st.floats(10, 1_000), st.integers(1, 4))
def test_however_often_it_is_killed_each_moves_once_and_in_order(
    places: list[tuple[str, int]], deaths: list[tuple[int, bool]], rate: float | None, chunk: int
) -> None:
    """Killed before or after any commit lands and started again under its name, a job moves each dead letter once,
    those of a topic and partition in their order, and its last audit record counts them all."""
    offsets: Counter[tuple[str, int]] = Counter()
    records = []
    for topic, partition in places:
        records.append(ours(offsets[topic, partition], topic=topic, partition=partition, pipeline=topic))
        offsets[topic, partition] += 1
    log = log_with(*records)
    what = order(rate_per_s=rate)
    for dies_at, lands in deaths:
        try:
            Bench(log, what, dies_at, lands, chunk).execute()
        except Killed:
            continue
    assert Bench(log, what, chunk=chunk).execute() <= len(places)
    assert Counter(origins(log)) == Counter((each.partition(), 100 + each.offset()) for each in records)
    for topic in TOPICS:
        mine = [r for r in log.topics["in"] if dict(r.headers() or [])["streamer.replay.pipeline"] == topic.encode()]
        for partition in range(4):
            found = [
                int(dict(record.headers() or [])["streamer.origin.offset"] or b"")
                for record in mine
                if record.partition() == partition
            ]
            assert found == sorted(found)
    last = audits(log)[-1]
    assert (last.event, last.count) == ("ended", len(places))
    assert Bench(log, what).found.total == 0


@pytest.mark.case(38)
def test_two_jobs_share_the_work() -> None:
    """What one job has moved another finds closed, also when it surveyed before."""
    log = log_with(*(ours(number) for number in range(6)))
    late = Bench(log, order("late"))
    assert late.found.total == 6
    with pytest.raises(Killed):
        Bench(log, order("first"), dies_at=2, lands=True).execute()
    assert late.execute() == 2
    assert sorted(origins(log)) == [(0, 100 + number) for number in range(6)]


def test_a_second_copier_ends_the_first() -> None:
    """The older one writes nothing any more."""
    log = log_with(ours())
    older = MemoryCopier(log, "in.dlq", [1])
    MemoryCopier(log, "in.dlq", [1])
    with pytest.raises(FencedError):
        older.commit([])


@pytest.mark.case(85)
def test_of_two_that_begin_at_once_one_is_told_of_the_other() -> None:
    """Neither saw the other's claim: the one that is ended says by whom."""
    log = log_with(*(ours(number) for number in range(6)))
    first = Bench(log, order("first", rate_per_s=1.0, topics=["in.dlq"]))

    def overtake() -> None:
        if first.mover.moved == 2:
            claim = Beat(order("second").signature, lambda: 0.0).begin("in.dlq")
            MemoryCopier(log, "in.dlq", [1]).commit(claim)

    first.on_sleep = overtake
    with pytest.raises(RunningError, match=r"fenced \(job second of me@here\)"):
        first.execute()
    assert len(origins(log)) == 2


def test_what_comes_later_is_left_for_later() -> None:
    """A job never reads past the ends that it found first, not even when it is started again."""
    log = log_with(*(ours(number) for number in range(3)))
    first = Bench(log, order())
    log.topics["in.dlq"].append(ours(3))
    assert first.execute() == 3
    log.topics["in.dlq"].append(ours(4))
    again = Bench(log, order())
    assert (again.found.total, again.found.closed, again.found.before) == (0, 3, 3)
    assert again.execute() == 0
    assert Bench(log, order("next")).found.total == 2


@pytest.mark.promise(9)
@pytest.mark.parametrize("rate", [3.0, 50.0, 200.0])
def test_the_rate_is_kept(rate: float) -> None:
    """The last record moves when N at that rate are due; never more than a tenth of a second's worth at once."""
    log = log_with(*(ours(number) for number in range(100)))
    bench = Bench(log, order(rate_per_s=rate))
    assert bench.execute() == 100
    assert bench.now == pytest.approx(100 / rate)
    assert max(b - a for (_, a), (_, b) in zip(bench.progress, bench.progress[1:], strict=False)) <= max(1, rate / 10)


def test_without_a_rate_transactions_are_large() -> None:
    """500 records each."""
    log = log_with(*(ours(number) for number in range(CHUNK_RECORDS + 1)))
    bench = Bench(log, order(topics=["in.dlq"]), chunk=CHUNK_RECORDS)
    bench.execute()
    assert [moved for _, moved in bench.progress] == [CHUNK_RECORDS, CHUNK_RECORDS + 1]


def test_at_most_so_many_in_all_starts() -> None:
    """`--max` counts what the job moved before it was killed."""
    log = log_with(*(ours(number) for number in range(9)))
    with pytest.raises(Killed):
        Bench(log, order(most=5), dies_at=2, lands=True).execute()
    assert len(origins(log)) == 4
    again = Bench(log, order(most=5))
    assert again.found.total == 1
    assert again.execute() == 1
    assert Bench(log, order(most=5)).found.total == 0


def test_refusals_are_counted_with_an_example() -> None:
    """One line a reason; the others move all the same."""
    worn: Any = [("streamer.replay.attempts", b"4")]
    log = log_with(
        ours(0), ours(1, headers=worn), ours(2, value=b"x" * 5_000, limit_bytes=2_000), ours(3, headers=worn)
    )
    bench = Bench(log, order())
    assert bench.found.total == 1
    assert {why.split(":")[0]: (each.count, str(each.example)) for why, each in bench.found.refused.items()} == {
        "it has failed 5 times, --max-attempts is 5": (2, "in.dlq/0/1"),
        "its value did not fit the dead-letter topic": (1, "in.dlq/0/2"),
    }
    assert bench.execute() == 1
    assert [(audit.event, audit.count, audit.refused) for audit in audits(log)] == [("began", 0, 3), ("ended", 1, 3)]


@pytest.mark.case(39)
def test_a_missing_target_or_right_moves_nothing() -> None:
    """Told by the survey, or before the first record where the state can't be written."""
    log = log_with(ours(), targets=[STATE_TOPIC, AUDIT_TOPIC])
    with pytest.raises(ConfigurationError, match="no topic in to write to, and nothing was moved"):
        Targets(log)("in")
    log.targets["in"] = FakeTarget(rights=frozenset({"Read", "Describe"}))
    with pytest.raises(ConfigurationError, match="no right to Write topic in"):
        Bench(log, order())
    log.targets["in"] = FakeTarget(rights=frozenset({"Read", "Write"}))
    del log.targets[AUDIT_TOPIC]
    bench = Bench(log, order())
    with pytest.raises(ConfigurationError, match=AUDIT_TOPIC):
        bench.execute()
    assert origins(log) == []
    assert log.topics[STATE_TOPIC] == []


@pytest.mark.case(86)
def test_only_what_the_configuration_reads_is_written_to() -> None:
    """Dead letters that name another topic, one that no broker would take, or one that is gone stay and are counted;
    the others move."""
    log = log_with(ours(0), ours(1, origin="payments"), ours(2, origin="a b\n"), ours(3, origin="gone"), ours(4))
    bench = Bench(log, order(), readers=("in", "gone"))
    assert bench.execute() == 2
    assert {(each.count, why.partition(":")[0]) for why, each in bench.found.refused.items()} == {
        (2, "no pipeline of the configuration reads the topic that its headers name"),
        (1, "topic gone is gone"),
    }
    assert origins(log) == [(0, 100), (0, 104)]
    assert not log.topics.get("payments")
    assert audits(log)[-1].refused == 3


@pytest.mark.case(84)
def test_a_digest_names_what_would_move() -> None:
    """The same for the same dead letters, orders and targets, and another one when any of these changes; letters that
    came since, or that do not match, change nothing that was bounded by the survey's ends."""
    log = log_with(*(ours(number) for number in range(4)), ours(4, code=Code.INFER_NAN))
    first = Bench(log, order())
    assert Bench(log, order("other")).found.digest == first.found.digest
    others = [
        order(rate_per_s=5.0),
        order(most=3),
        order(selection=Selection(codes=["infer.nan"])),
        order(action="edit"),
        order(named=True),
    ]
    digests = {first.found.digest, *(Bench(log, each).found.digest for each in others)}
    assert len(digests) == 1 + len(others)
    log.topics["in.dlq"].append(ours(5))
    assert Bench(log, order()).found.digest not in digests
    again = survey(log, first.mover._order, first.decide, ends=first.found.ends)
    assert again.digest == first.found.digest
    Bench(log, order("thief", most=1)).execute()
    assert survey(log, first.mover._order, first.decide, ends=first.found.ends).digest != first.found.digest


@pytest.mark.case(84)
@given(letters, st.integers(1, 8))
@settings(deadline=None)
def test_at_most_so_many_are_those_that_were_shown(places: list[tuple[str, int]], most: int) -> None:
    """A bounded job moves the very dead letters that its survey chose, in whatever order partitions are read."""
    offsets: Counter[tuple[str, int]] = Counter()
    log = log_with()
    for topic, partition in places:
        log.topics[topic].append(ours(offsets[topic, partition], topic=topic, partition=partition, pipeline=topic))
        offsets[topic, partition] += 1
    bench = Bench(log, order(most=most))
    shown = Counter(bench.found.moves)
    for topic in TOPICS:  # another order among partitions, as brokers may answer
        log.topics[topic].sort(key=lambda record: (-record.partition(), record.offset()))
    assert bench.execute() == min(most, len(places))
    with read_closed(log) as closed:
        moved = Counter(
            (record.topic(), "in", record.partition())
            for topic in TOPICS
            for record in log.topics[topic]
            if closed.holds(letter(record))
        )
    assert moved == shown


@pytest.mark.case(85)
def test_a_second_job_is_refused_while_one_runs() -> None:
    """It is told who runs which job, and harms nothing; one that died is taken over when it shows no life."""
    log = log_with(*(ours(number) for number in range(6)))
    second = Bench(log, order("second"))
    refusals: list[ExitCode] = []

    def meanwhile(_: float) -> None:
        if not refusals:
            second.on_sleep = lambda: first.mover._show_life(
                MemoryCopier(log, "in.dlq", [1], owner=log.owners["in.dlq"])
            )
            with pytest.raises(
                RunningError, match=r"job first of me@here has been moving dead letters of in\.dlq since"
            ) as error:
                second.execute()
            refusals.append(error.value.exit_code)

    first = Bench(log, order("first", rate_per_s=0.5, topics=["in.dlq"]))
    first.on_sleep = lambda: meanwhile(first.now)
    assert first.execute() == 6
    assert refusals == [ExitCode.FENCED]
    assert sorted(origins(log)) == [(0, 100 + number) for number in range(6)]
    assert not running(log)

    log = log_with(*(ours(number) for number in range(6)))
    with pytest.raises(Killed):
        Bench(log, order("dead"), dies_at=2).execute()
    assert running(log) == ["in.dlq"]
    heir = Bench(log, order("heir"))
    assert heir.execute() == 4
    assert heir.now >= LAPSE_S
    assert "job dead of me@here did not say that it ended on in.dlq" in heir.told[0]


@pytest.mark.case(38)
def test_a_job_that_stops_says_why() -> None:
    """On the audit topic, and it gives its claim back, so that it goes on without waiting."""
    log = log_with(*(ours(number) for number in range(6)))
    bench = Bench(log, order(rate_per_s=1.0))

    def stop(_: int) -> None:
        raise ConfigurationError("the disk is full")

    bench.mover._progress = stop
    with pytest.raises(ConfigurationError):
        bench.execute()
    last = audits(log)[-1]
    assert (last.event, last.outcome, last.count, last.rate_per_s) == ("stopped", "the disk is full", 1, 1.0)
    again = Bench(log, order())
    again.execute()
    assert again.now == 0
    assert (audits(log)[-1].event, audits(log)[-1].outcome, audits(log)[-1].count) == ("ended", "done", 6)


@pytest.mark.case(91)
def test_those_that_the_same_model_failed_are_told() -> None:
    """They may go, and will hardly come to anything; with another revision, or none that is known, nothing is said."""
    log = log_with(*(ours(number) for number in range(3)), ours(3, pipeline="in.dlq"))
    bench = Bench(log, order())
    model = "sentiment@abc123"
    for models, same in (({"p": model}, {("p", model): 3}), ({"p": "sentiment@def456"}, {}), ({}, {})):
        found = survey(log, order(), bench.decide, models=models)
        assert (dict(found.same_model), found.total) == (same, 4)


def test_a_job_is_undone_by_its_name() -> None:
    """What it closed is open again, as often as one likes; what others closed stays closed."""
    log = log_with(*(ours(number) for number in range(4)))
    Bench(log, order("mine", most=3)).execute()
    Bench(log, order("other")).execute()
    what = order("undo", action="reopen", reopens="mine")
    targets, decide = Targets(log), Mark(what.signature, "reopened")
    found = survey(log, what, decide)
    assert found.total == 3
    assert Mover(log, what, decide, targets, functools.partial(MemoryCopier, log)).execute(found) == 3
    assert open_offsets(log, *TOPICS) == [0, 1, 2]
    assert survey(log, what, decide).total == 0
    assert Bench(log, order("again")).execute() == 3


def test_a_job_is_one_order() -> None:
    """Under its name another filter or action is refused."""
    log = log_with(ours())
    Bench(log, order()).execute()
    for other in (order(selection=Selection(codes=["infer.nan"])), order(action="edit")):
        with pytest.raises(UsageError, match="job j was started by me@here"):
            Bench(log, other)


def test_two_orders_of_one_name_do_not_mix() -> None:
    """Both were surveyed before either began: the second one moves nothing, and claims no topic."""
    log = log_with(*(ours(number) for number in range(4)))
    first, second = Bench(log, order(most=1)), Bench(log, order(most=2))
    first.execute()
    with pytest.raises(UsageError, match="job j was started by me@here"):
        second.execute()
    assert origins(log) == [(0, 100)]
    assert {record.key() for record in log.topics[STATE_TOPIC]} == {
        b"job/j",
        b"in.dlq/0/0",
        b"claim/in.dlq",
        b"claim/other.dlq",
    }


def test_a_job_keeps_the_selection_that_it_began_with() -> None:
    """A time that was given as "2h ago" means the same when the job is started again."""
    log = log_with(ours(0), ours(1))
    early = Selection(since_ms=0)
    with pytest.raises(Killed):
        Bench(log, order(selection=early), dies_at=1, chunk=1).execute()
    later = Selection(since_ms=1 << 60)
    assert Bench(log, order(selection=later)).found.total == 2


def test_where_order_is_lost_is_told() -> None:
    """Dead letters of one origin partition on two partitions, as `partitioning = "key"` lays them."""
    one, two = ours(0, partition=1), ours(0, partition=1)
    moved = FakeRecord(two.value(), two.key(), two.headers(), "in.dlq", 2, 0)
    assert Bench(log_with(one, moved), order()).found.scattered == {("in", 1)}
    assert Bench(log_with(one, ours(1, partition=1)), order()).found.scattered == set()


def test_a_discard_closes_and_moves_nothing() -> None:
    """Discarded ones are found only when closed ones are asked for."""
    log = log_with(ours(0), ours(1, code=Code.INFER_NAN))
    what = order(action="discard", selection=Selection(codes=["infer.nan"]))
    targets = Targets(log)
    decide = Mark(what.signature, "discarded", "spam")
    found = survey(log, what, decide)
    assert dict(found.moves) == {("in.dlq", "", 0): 1}
    assert Mover(log, what, decide, targets, functools.partial(MemoryCopier, log)).execute(found) == 1
    assert origins(log) == []
    assert open_offsets(log, *TOPICS) == [0]
    assert [each.place.offset for each in find(log, TOPICS, Selection(), None)] == [0, 1]


def test_one_dead_letter_is_found_by_its_place() -> None:
    """Or there is none."""
    log = log_with(ours(0), ours(1))
    one = letter_at(log, Place("in.dlq", 0, 1))
    assert one is not None
    assert one.place == ("in.dlq", 0, 1)
    log.topics["in.dlq"].pop(0)
    assert letter_at(log, Place("in.dlq", 0, 0)) is None


def test_without_a_state_topic_nothing_is_closed() -> None:
    """Looking needs no topic of streamer's."""
    log = log_with(ours(), targets=[])
    del log.topics[STATE_TOPIC]
    assert open_offsets(log, "in.dlq") == [0]


def test_the_audit_topic_is_read_on_from_where_it_was() -> None:
    """Each look reads what is new; another program's record is passed over, a log that was made anew read anew."""
    log = log_with(*(ours(number) for number in range(2)))
    log.topics[AUDIT_TOPIC].append(FakeRecord(b"[" * 100_000, topic=AUDIT_TOPIC))
    reader = Audits()
    assert reader.read(log) == []
    Bench(log, order("first", most=1)).execute()
    assert [(last.job, last.event) for _, last in reader.read(log)] == [("first", "ended")]
    _, began, ended = log.topics[AUDIT_TOPIC]
    other = msgspec.structs.replace(msgspec.json.decode(began.value() or b"", type=Audit), job="never read")
    log.topics[AUDIT_TOPIC][0] = FakeRecord(msgspec.json.encode(other), topic=AUDIT_TOPIC)
    Bench(log, order("second", most=1)).execute()
    assert sorted(last.job for _, last in reader.read(log)) == ["first", "second"]
    log.topics[AUDIT_TOPIC] = [FakeRecord(ended.value(), topic=AUDIT_TOPIC)]
    assert [(last.job, last.event) for _, last in reader.read(log)] == [("first", "ended")]
