"""The crash ledger: what is committed by whom, who counts as dead, and how records are handed over after deaths."""

from __future__ import annotations

import pytest

from streamer.core.pipeline.attempts import (
    FEW,
    IDLE_S,
    RANGE_RECORDS,
    Attempts,
    Former,
    Mark,
    Note,
    standing_of,
    would_hold,
)
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason

KEY, OTHER = ("in", 0), ("in", 1)
LIMIT = 4


class Process:
    """A process that has all partitions."""

    def __init__(self, group: Group, name: str) -> None:
        self.group = group
        self.attempts = Attempts(LIMIT)
        self.attempts.joined(name)
        self.assigned()

    def assigned(self, former: Former = Former()) -> None:
        """It gets them, or reads them anew."""
        self.attempts.started(former)
        self.attempts.assigned(self.group.committed, 0.0)
        self.group.committed.update(self.attempts.held)

    def hand_over(self, first: int, key: TopicPartition = KEY) -> dict[TopicPartition, Mark]:
        """Hand records over; returns what was committed before."""
        marks = self.attempts.marks({key: first} if key in self.attempts.unmarked else {})
        self.group.committed |= marks
        self.attempts.marked(marks)
        return marks

    def settle(self, offset: int, key: TopicPartition = KEY) -> None:
        self.group.committed[key] = offset, self.attempts.note(key, offset)
        self.attempts.settled({key: offset}, 0.0)

    def end_in_order(self) -> None:
        committed = self.group.committed
        mine = committed.keys() - self.attempts.held.keys()
        committed.update({key: (committed[key][0], self.attempts.ended(committed[key][1])) for key in mine})


class Group:
    """Committed offsets, and processes that come and go. The first one has settled up to 10."""

    def __init__(self, *keys: TopicPartition) -> None:
        self.committed: dict[TopicPartition, Mark] = dict.fromkeys(keys or (KEY,), (10, ""))
        self.processes = 0
        first = self.process()
        for key in self.committed:
            first.settle(10, key)

    def process(self) -> Process:
        self.processes += 1
        return Process(self, f"member-{self.processes}")

    def note(self, key: TopicPartition = KEY) -> Note:
        return Note.read(self.committed[key][1])

    def deaths(self, key: TopicPartition = KEY) -> int:
        return len(self.note(key).by)


def died(group: Group, times: int) -> None:
    """So many processes die with the records from the committed offset on in their hands."""
    for _ in range(times):
        group.process().hand_over(10)


@pytest.mark.case(67)
class TestEvidence:
    def test_where_nothing_died_nothing_is_committed_before_the_first_records(self) -> None:
        """Neither at a first start, nor after an orderly end, nor by who has the partition back."""
        group = Group()
        group.committed[KEY] = (10, "")
        for _ in range(3):
            process = group.process()
            assert process.hand_over(10) == {}
            process.settle(50)
            process.assigned()
            assert process.hand_over(50) == {}
            process.settle(10)
            process.end_in_order()
            assert not process.attempts.watching

    def test_a_settle_that_nobody_ended_is_evidence(self) -> None:
        """From then on a process commits its name before the first records, once, and the next settle is without."""
        group = Group()
        process = group.process()
        assert process.attempts.unmarked == {KEY}
        assert process.hand_over(10).keys() == {KEY}
        assert (group.deaths(), group.committed[KEY][0]) == (1, 10)
        assert process.hand_over(50) == {}
        process.settle(50)
        assert (group.deaths(), process.attempts.watching) == (0, False)
        assert process.hand_over(90) == {}

    def test_a_member_that_had_the_partition_and_left_no_word_is_evidence(self) -> None:
        """It was there when this process started, and died before its first settle."""
        group = Group()
        process = group.process()
        process.end_in_order()
        following = group.process()
        assert not following.attempts.unmarked
        following.assigned(Former({KEY: "member-3"}))  # its own
        assert not following.attempts.unmarked
        following.assigned(Former({KEY: "member-2"}))  # the one that ended in order
        assert not following.attempts.unmarked
        following.assigned(Former({KEY: "gone"}))
        assert following.attempts.unmarked == {KEY}

    def test_a_death_with_nothing_in_hands_is_not_counted(self) -> None:
        """A deployment that dies at its start, or a process without records of this partition, blames no record."""
        group = Group()
        for _ in range(3 * LIMIT):
            assert not group.process().attempts.held
        assert group.deaths() == 0

    def test_deaths_at_different_offsets_do_not_add_up(self) -> None:
        """Kills at random move on with the offset."""
        group = Group()
        for number in range(3 * LIMIT):
            process = group.process()
            process.hand_over(10 + number)
            process.settle(11 + number)
        assert not group.process().attempts.held

    def test_an_orderly_end_takes_its_own_name_back_and_no_other(self) -> None:
        """However often."""
        group = Group()
        died(group, 2)
        for _ in range(3 * LIMIT):
            process = group.process()
            assert process.hand_over(10)
            process.end_in_order()
            assert group.deaths() == 2

    def test_a_partition_that_goes_to_and_fro_between_the_living_is_no_death(self) -> None:
        """Sessions are lost again and again and nothing is settled: who gets it back strikes its own name out."""
        group = Group()
        one, other = group.process(), group.process()
        for process in [one, other] * LIMIT:
            process.assigned()
            assert not process.attempts.held
            process.hand_over(10)
            assert group.deaths() <= 2

    def test_a_new_membership_of_the_same_process_is_no_death(self) -> None:
        """A client made anew has another id."""
        group = Group()
        process = group.process()
        for number in range(3 * LIMIT):
            process.hand_over(10)
            process.attempts.joined(f"again-{number}")
            process.assigned()
        assert not process.attempts.held

    def test_a_member_that_was_fenced_is_no_death(self) -> None:
        """Who is about to hold a partition is told which members live."""
        group = Group()
        died(group, LIMIT)
        assert would_hold(group.committed[KEY][1], "member-5", LIMIT)
        assert not would_hold(group.committed[KEY][1], "member-4", LIMIT)
        assert not would_hold(group.committed[KEY][1], "member-5", LIMIT + 1)
        process = Process.__new__(Process)
        process.group, process.attempts = group, Attempts(LIMIT)
        process.attempts.joined("fencing")
        process.assigned(Former(alive=frozenset({"member-5"})))
        assert not process.attempts.held
        process.hand_over(10)
        assert group.deaths() == LIMIT
        assert group.process().attempts.held
        assert not would_hold(group.committed[KEY][1], "fencing", LIMIT)  # it is held

    @pytest.mark.parametrize(
        "metadata",
        [
            "",
            "x",
            "[]",
            '{"attempt":9}',
            '{"by":"a"}',
            '{"by":[1]}',
            '{"by":["a"],"until":"x"}',
            '{"held":1}',
            "[" * 4000,
        ],
    )
    def test_the_metadata_of_others_counts_for_nothing(self, metadata: str) -> None:
        """Offsets that another program committed."""
        assert Note.read(metadata) == Note()

    def test_a_note_of_a_hundred_deaths_is_no_more_than_a_broker_takes(self) -> None:
        """4,096 bytes, however long the members' ids are."""
        attempts = Attempts(101)
        committed: dict[TopicPartition, Mark] = {KEY: (10, Note("x").write())}
        for number in range(100):
            attempts = Attempts(101)
            attempts.joined("a-long-name-of-a-host" * 10 + str(number))
            attempts.assigned(committed, 0.0)
            committed |= attempts.marks({KEY: 10})
        note = committed[KEY][1]
        assert (len(Note.read(note).by), len(note) < 4096) == (100, True)


class TestCare:
    def test_after_one_death_a_few_records_go_at_a_time(self) -> None:
        """And the note says which."""
        group = Group()
        died(group, 1)
        process = group.process()
        assert (process.attempts.most, process.attempts.on_trial) == (FEW, None)
        process.hand_over(12)
        assert (group.note().at, group.note().until, group.deaths()) == (12, 12 + FEW, 2)
        process.settle(40)
        assert group.note() == Note(group.note().owner, until=10 + RANGE_RECORDS, most=FEW)
        process.hand_over(40)
        assert (group.note().at, group.note().until, group.deaths()) == (40, 40 + FEW, 1)

    def test_after_two_deaths_records_go_alone_up_to_where_the_note_says(self) -> None:
        """Each with a note of its own; then all is as always."""
        group = Group()
        died(group, 2)
        process = group.process()
        for offset, following, deaths in ((10, 11, 3), (11, 12, 1), (12, 10 + FEW, 1)):
            assert (process.attempts.most, process.attempts.on_trial) == (1, KEY)
            process.hand_over(offset)
            assert (group.note().until, group.deaths()) == (10 + FEW, deaths)
            process.settle(following)
        assert (process.attempts.most, process.attempts.on_trial) == (None, None)
        assert group.note() == Note(group.note().owner)

    def test_care_outlives_the_process(self) -> None:
        """Amid records that go alone one dies, or ends in order: the next process goes on alone."""
        group = Group()
        died(group, 2)
        process = group.process()
        process.hand_over(10)
        process.settle(11)
        process.end_in_order()
        process = group.process()
        assert process.attempts.most == 1
        process.hand_over(11)
        assert (group.deaths(), group.note().until) == (1, 10 + FEW)
        assert group.process().attempts.most == 1

    def test_partitions_are_tried_one_after_the_other_the_most_suspicious_first(self) -> None:
        """A death must speak of one record."""
        group = Group(KEY, OTHER)
        for _ in range(2):
            process = group.process()
            process.hand_over(10)
            process.hand_over(10, OTHER)
        group.process().hand_over(10, OTHER)
        process = group.process()
        assert (process.attempts.most, process.attempts.on_trial) == (1, OTHER)
        process.hand_over(10, OTHER)
        process.settle(12, OTHER)
        assert process.attempts.on_trial == KEY

    def test_a_partition_with_nothing_to_read_needs_no_care(self) -> None:
        """Its records may be gone by retention."""
        group = Group()
        died(group, 2)
        process = group.process()
        process.attempts.waited(IDLE_S - 1)
        assert process.attempts.on_trial == KEY
        process.attempts.waited(IDLE_S + 1)
        assert process.attempts.most is None
        process.hand_over(10)
        assert group.deaths() == 1

    def test_who_waits_for_its_turn_is_not_idle(self) -> None:
        """Only what is asked can give nothing."""
        group = Group(KEY, OTHER)
        for _ in range(2):
            process = group.process()
            process.hand_over(10)
            process.hand_over(10, OTHER)
        attempts = group.process().attempts
        assert attempts.on_trial == KEY
        attempts.waited(IDLE_S + 1)
        assert attempts.on_trial == OTHER
        attempts.waited(IDLE_S + 2)
        assert attempts.on_trial == OTHER


class TestHold:
    def test_after_the_limit_the_partition_is_held_at_the_record_that_was_alone(self) -> None:
        """It says so in the metadata, by name and with both ways out; others are read as always."""
        group = Group(KEY, OTHER)
        for _ in range(LIMIT):
            process = group.process()
            assert not process.attempts.held
            process.hand_over(13)  # 10 to 12 hold no records
        attempts = group.process().attempts
        assert attempts.held.keys() == {KEY}
        assert attempts.most is None
        said = standing_of(KEY, group.committed[KEY])
        assert said is not None
        assert (said.partition, said.offset, said.reason) == (KEY, 13, Reason.HELD)
        assert f"{LIMIT} processes" in said.what
        assert "`streamer dlq bury in/0/13`" in said.fix
        assert "`streamer dlq release in/0`" in said.fix
        assert standing_of(OTHER, group.committed[OTHER]) is None

    def test_it_stays_held_whoever_comes_and_goes(self) -> None:
        """Also with a higher limit."""
        group = Group()
        died(group, LIMIT)
        group.process()
        held = group.committed[KEY]
        generous = Attempts(100)
        generous.assigned(group.committed, 0.0)
        assert generous.held == {KEY: held}
        generous.dropped([KEY])
        assert not generous.held

    def test_who_ends_a_hold_has_what_follows_read_alone(self) -> None:
        """Nobody is blamed any more."""
        group = Group()
        died(group, 3)
        group.process().hand_over(10)
        process = group.process()
        assert process.attempts.held
        group.committed[KEY] = 11, group.note().after_hold().write()
        process.assigned()
        assert (process.attempts.held, process.attempts.most) == ({}, 1)
        process.hand_over(11)
        assert group.deaths() == 1

    def test_neighbours_that_went_down_with_it_are_cleared(self) -> None:
        """Two partitions die together twice; only the guilty one is ever counted a third time."""
        group = Group(KEY, OTHER)
        for _ in range(2):
            process = group.process()
            process.hand_over(10)
            process.hand_over(10, OTHER)
        while OTHER not in (process := group.process()).attempts.held:
            if process.attempts.on_trial == KEY:
                process.hand_over(10)
                process.settle(11)
            assert process.attempts.on_trial == OTHER
            process.hand_over(10, OTHER)  # it dies here
        assert (group.committed[KEY][0], group.deaths()) == (11, 0)
        assert group.processes == LIMIT + 2
