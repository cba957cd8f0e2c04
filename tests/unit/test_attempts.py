"""The crash ledger: what is noted before records are handed over, and what comes of notes that nobody took back."""

from __future__ import annotations

import pytest

from streamer.core.pipeline.attempts import FEW, IDLE_S, Attempts, Mark, Note
from streamer.errors import Code

KEY, OTHER = ("in", 0), ("in", 1)
LIMIT = 5


class Group:
    """Committed offsets, and processes that come and go."""

    def __init__(self, *keys: tuple[str, int]) -> None:
        self.committed: dict[tuple[str, int], Mark] = dict.fromkeys(keys or (KEY,), (10, ""))
        self.processes = 0

    def process(self) -> Attempts:
        """A new process that gets all partitions."""
        self.processes += 1
        attempts = Attempts(LIMIT, f"p{self.processes}")
        attempts.assigned(dict(self.committed), 0.0)
        return attempts

    def hand_over(self, attempts: Attempts, **ends: int) -> None:
        """Hand over partition pN up to an offset."""
        keyed = {("in", int(name[1:])): end for name, end in ends.items()}
        self.committed.update(attempts.hand_over(keyed, 0.0))

    def settle(self, attempts: Attempts, offset: int, key: tuple[str, int] = KEY) -> None:
        """A settle commits without metadata."""
        self.committed[key] = (offset, "")
        attempts.settled({key: offset}, 0.0)

    def attempt(self, key: tuple[str, int] = KEY) -> int:
        return Note.read(self.committed[key][1]).attempt


def died(group: Group, times: int, end: int = 50) -> None:
    """So many processes die with the records from the committed offset on."""
    for _ in range(times):
        group.hand_over(group.process(), p0=end)


class TestNumbers:
    def test_the_same_offset_is_committed_with_one_more_attempt(self) -> None:
        """Once, before the first records; not before later ones."""
        group = Group()
        attempts = group.process()
        assert attempts.unmarked == {KEY}
        assert attempts.hand_over({KEY: 50}, 0.0) == {KEY: (10, Note(["p1"]).write())}
        assert not attempts.unmarked
        assert attempts.hand_over({KEY: 90}, 0.0) == {}

    def test_a_settle_is_the_reset(self) -> None:
        """After the first settle nothing is noted or watched any more."""
        group = Group()
        attempts = group.process()
        group.hand_over(attempts, p0=50)
        assert attempts.watching
        group.settle(attempts, 50)
        assert (attempts.watching, attempts.unmarked, group.attempt()) == (False, frozenset(), 0)
        assert attempts.hand_over({KEY: 90}, 0.0) == {}

    def test_a_process_that_dies_before_it_handed_anything_over_counts_nothing(self) -> None:
        """A deployment that dies at its start blames no record."""
        group = Group()
        for _ in range(20):
            group.process()
        assert group.attempt() == 0

    def test_deaths_at_different_offsets_do_not_add_up(self) -> None:
        """Kills at random move on with the offset."""
        group = Group()
        for number in range(20):
            attempts = group.process()
            group.hand_over(attempts, p0=50 + number)
            group.settle(attempts, 50 + number)
            assert attempts.most is None
        assert group.attempt() == 0

    def test_a_release_takes_the_attempt_back_and_a_stop_takes_all_back(self) -> None:
        """An orderly end is nobody's death."""
        group = Group()
        died(group, 1)
        found = group.committed[KEY]
        attempts = group.process()
        group.hand_over(attempts, p0=50)
        assert attempts.left([KEY]) == {KEY: found}
        attempts = group.process()
        group.hand_over(attempts, p0=50)
        assert attempts.left([KEY], stopping=True) == {KEY: (10, "")}

    def test_what_was_not_handed_over_is_not_taken_back(self) -> None:
        """Its note is as it was."""
        assert Group().process().left([KEY], stopping=True) == {}

    def test_its_own_note_is_no_death(self) -> None:
        """A process that lost a partition and got it back still lives."""
        group = Group()
        attempts = group.process()
        group.hand_over(attempts, p0=50)
        attempts.left([KEY])
        attempts.assigned(dict(group.committed), 0.0)
        group.hand_over(attempts, p0=50)
        assert group.attempt() == 1

    def test_a_partition_that_goes_to_and_fro_between_the_living_is_no_death(self) -> None:
        """Sessions are lost again and again and nothing is settled: two processes are never more than two."""
        group = Group()
        one, other = group.process(), group.process()
        for attempts in [one, other] * LIMIT:
            attempts.left([KEY])  # lost: nothing was to be said to anybody
            attempts.assigned(dict(group.committed), 0.0)
            assert attempts.verdict(KEY) is None
            group.hand_over(attempts, p0=11)
            assert group.attempt() <= 2

    def test_reading_again_in_the_same_process_is_no_attempt(self) -> None:
        """At least once after a delivery error."""
        group = Group()
        attempts = group.process()
        group.hand_over(attempts, p0=50)
        attempts.moved({KEY: 10}, 0.0)
        group.hand_over(attempts, p0=50)
        assert group.attempt() == 1

    @pytest.mark.parametrize(
        "metadata", ["", "x", "[]", '{"attempt":9}', '{"by":"a"}', '{"by":[1]}', '{"by":["a"],"until":"x"}', "[" * 4000]
    )
    def test_the_metadata_of_others_counts_for_nothing(self, metadata: str) -> None:
        """Offsets that another program committed."""
        assert Note.read(metadata) == Note()


class TestCare:
    def test_after_one_death_a_few_records_go_at_a_time(self) -> None:
        """And the note says up to where."""
        group = Group()
        died(group, 1)
        attempts = group.process()
        assert (attempts.most, attempts.on_trial) == (FEW, None)
        group.hand_over(attempts, p0=40)
        assert Note.read(group.committed[KEY][1]) == Note(["p1", "p2"], 40)
        group.settle(attempts, 40)
        group.hand_over(attempts, p0=70)
        assert Note.read(group.committed[KEY][1]) == Note(["p1", "p2"], 70)

    def test_after_two_deaths_records_go_alone_up_to_where_the_note_says(self) -> None:
        """Each with a note of its own; then all is as always."""
        group = Group()
        died(group, 2, end=13)
        attempts = group.process()
        for offset in (10, 11, 12):
            assert (attempts.most, attempts.on_trial) == (1, KEY)
            group.hand_over(attempts, p0=offset + 1)
            assert Note.read(group.committed[KEY][1]) == Note(["p1", "p2", "p3"], 13)
            group.settle(attempts, offset + 1)
        assert (attempts.most, attempts.on_trial) == (None, None)

    def test_partitions_are_tried_one_after_the_other_the_most_suspicious_first(self) -> None:
        """A death must speak of one record."""
        group = Group(KEY, OTHER)
        for _ in range(2):
            group.hand_over(group.process(), p0=12, p1=12)
        group.hand_over(group.process(), p1=11)
        attempts = group.process()
        assert (attempts.most, attempts.on_trial) == (1, OTHER)
        group.hand_over(attempts, p1=11)
        group.settle(attempts, 12, OTHER)
        assert attempts.on_trial == KEY

    def test_a_partition_with_nothing_to_read_needs_no_care(self) -> None:
        """Its records may be gone by retention."""
        group = Group()
        died(group, 2)
        attempts = group.process()
        attempts.waited(IDLE_S - 1)
        assert attempts.on_trial == KEY
        attempts.waited(IDLE_S + 1)
        assert attempts.most is None
        group.hand_over(attempts, p0=50)
        assert group.attempt() == 1

    def test_who_waits_for_its_turn_is_not_idle(self) -> None:
        """Only what is asked can give nothing."""
        group = Group(KEY, OTHER)
        for _ in range(2):
            group.hand_over(group.process(), p0=12, p1=12)
        attempts = group.process()
        attempts.waited(IDLE_S + 1)
        assert attempts.on_trial == OTHER
        attempts.waited(IDLE_S + 2)
        assert attempts.on_trial == OTHER


class TestVerdict:
    def test_the_record_that_died_alone_up_to_the_limit_is_convicted(self) -> None:
        """The first two deaths may be anybody's; the next three were with it alone."""
        group = Group()
        for _ in range(LIMIT):
            attempts = group.process()
            assert attempts.verdict(KEY) is None
            group.hand_over(attempts, p0=11 if attempts.most == 1 else 50)
        verdict = group.process().verdict(KEY)
        assert verdict is not None
        assert (verdict.code, verdict.attempts) == (Code.INFER_DRIVER_KILLED, LIMIT)

    def test_the_records_behind_it_are_tried(self) -> None:
        """Once it is a dead letter, the others have their first time alone."""
        group = Group()
        died(group, LIMIT, end=12)
        attempts = group.process()
        group.hand_over(attempts, p0=11)
        group.settle(attempts, 11)
        assert attempts.verdict(KEY) is None
        assert attempts.most == 1
        group.settle(attempts, 11)
        group.hand_over(attempts, p0=12)
        assert group.attempt() == 3

    def test_a_verdict_whose_settle_was_not_heard_of_is_not_its_successors(self) -> None:
        """Its commit was applied and the answer lost: reading again finds the offset behind it."""
        group = Group()
        died(group, LIMIT, end=12)
        attempts = group.process()
        assert attempts.verdict(KEY) is not None
        group.hand_over(attempts, p0=11)
        group.committed[KEY] = (11, "")
        attempts.moved({KEY: 11}, 0.0)
        assert attempts.verdict(KEY) is None
        assert attempts.most == 1

    def test_neighbours_that_went_down_with_it_are_cleared(self) -> None:
        """Four partitions die together twice; only the guilty one's record is ever counted a third time."""
        group = Group(KEY, OTHER)
        for _ in range(2):
            group.hand_over(group.process(), p0=11, p1=11)
        while (attempts := group.process()).verdict(OTHER) is None:
            if attempts.on_trial == KEY:
                group.hand_over(attempts, p0=11)
                group.settle(attempts, 11)
            assert attempts.on_trial == OTHER
            group.hand_over(attempts, p1=11)  # it dies here
        assert group.committed[KEY] == (11, "")
        assert group.processes == LIMIT + 1
