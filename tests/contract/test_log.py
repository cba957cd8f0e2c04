"""What the simulation leans on: the in-memory log and a real Kafka behave alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.log_beds import Bed, KafkaBed, Member, MemoryBed, RefusedError


@pytest.fixture(params=["memory", "kafka"])
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    in_memory = request.param == "memory"
    made: Bed = MemoryBed() if in_memory else KafkaBed(request.getfixturevalue("kafka").bootstrap_servers)
    yield made
    made.close()


class TestTransactions:
    def test_an_open_transaction_holds_readers_back(self, bed: Bed) -> None:
        """Neither its records are read nor what was written behind them; once it is committed, all are, in order."""
        topic = bed.topic(1)
        bed.write(topic, 0, b"before")
        producer = bed.producer("p")
        producer.begin()
        producer.send(topic, 0, b"inside")
        bed.write(topic, 0, b"behind")
        assert bed.read(topic, 0) == [(0, b"before")]
        producer.commit()
        assert bed.read(topic, 0) == [(0, b"before"), (1, b"inside"), (2, b"behind")]

    def test_aborted_records_are_never_read_and_markers_take_offsets(self, bed: Bed) -> None:
        """Offsets have gaps, from aborted records and from the markers that end transactions."""
        topic = bed.topic(1)
        producer = bed.producer("p")
        producer.begin()
        producer.send(topic, 0, b"aborted")
        producer.abort()
        producer.begin()
        producer.send(topic, 0, b"good")
        producer.commit()
        bed.write(topic, 0, b"plain")
        assert bed.read(topic, 0) == [(2, b"good"), (4, b"plain")]

    @pytest.mark.case(1)
    def test_a_newer_producer_of_the_same_id_aborts_and_fences(self, bed: Bed) -> None:
        """What the older one had open never happened, and it can't go on."""
        topic = bed.topic(1)
        older = bed.producer("p")
        older.begin()
        older.send(topic, 0, b"older")
        newer = bed.producer("p")
        newer.begin()
        newer.send(topic, 0, b"newer")
        newer.commit()
        with pytest.raises(RefusedError, match="PRODUCER_FENCED"):
            older.commit()
        assert [value for _, value in bed.read(topic, 0)] == [b"newer"]

    def test_deleted_records_are_out_of_range(self, bed: Bed) -> None:
        """Retention takes the first records; to read there is an error, behind it all is well."""
        topic = bed.topic(1)
        bed.write(topic, 0, b"a", b"b", b"c")
        bed.delete_before(topic, 0, 2)
        assert bed.read(topic, 0, 2) == [(2, b"c")]
        with pytest.raises(RefusedError, match="OFFSET_OUT_OF_RANGE"):
            bed.read(topic, 0, 0)


class TestOffsets:
    def test_offsets_count_when_their_transaction_is_committed(self, bed: Bed) -> None:
        """Before, whoever asks for them has to wait: this is what keeps a new owner from starting too early."""
        topic = bed.topic(1)
        member = alone(bed, topic, 1)
        producer = bed.producer("p")
        producer.begin()
        producer.send_offsets(topic, {0: 7}, member.metadata())
        assert bed.committed(topic, 0) == "unstable"
        producer.commit()
        assert bed.committed(topic, 0) == 7

    def test_aborted_offsets_never_were(self, bed: Bed) -> None:
        """An abort leaves the offset where it was."""
        topic = bed.topic(1)
        member = alone(bed, topic, 1)
        producer = bed.producer("p")
        producer.begin()
        producer.send_offsets(topic, {0: 7}, member.metadata())
        producer.abort()
        assert bed.committed(topic, 0) is None

    @pytest.mark.case(3)
    def test_metadata_of_an_older_generation_is_refused(self, bed: Bed) -> None:
        """Also for partitions that the member keeps; its newest is accepted."""
        topic = bed.topic(2)
        member = alone(bed, topic, 2)
        old = member.metadata()
        other = bed.join("other", topic)
        bed.wait(lambda: len(member.owned) == len(other.owned) == 1)
        (kept,) = member.owned
        producer = bed.producer("p")
        producer.begin()
        with pytest.raises(RefusedError, match="ILLEGAL_GENERATION"):
            producer.send_offsets(topic, {kept: 1}, old)
        producer.abort()
        producer.begin()
        producer.send_offsets(topic, {kept: 2}, member.metadata())
        producer.commit()
        assert bed.committed(topic, kept) == 2

    def test_fresh_metadata_is_accepted_for_a_partition_of_another(self, bed: Bed) -> None:
        """The broker does not look at who owns what: the sink has to."""
        topic = bed.topic(2)
        member = alone(bed, topic, 2)
        other = bed.join("other", topic)
        bed.wait(lambda: len(member.owned) == len(other.owned) == 1)
        (theirs,) = other.owned
        producer = bed.producer("p")
        producer.begin()
        producer.send_offsets(topic, {theirs: 5}, member.metadata())
        producer.commit()
        assert bed.committed(topic, theirs) == 5

    def test_metadata_lasts_until_the_next_commit(self, bed: Bed) -> None:
        """An offset may be committed again with a note, and a transaction's offset has one of its own, or none."""
        topic = bed.topic(1)
        member = alone(bed, topic, 1)
        member.commit({0: 3}, '{"attempt":1}')
        assert (bed.committed(topic, 0), bed.note(topic, 0)) == (3, '{"attempt":1}')
        producer = bed.producer("p")
        producer.begin()
        producer.send_offsets(topic, {0: 5}, member.metadata())
        producer.commit()
        assert (bed.committed(topic, 0), bed.note(topic, 0)) == (5, "")
        producer.begin()
        producer.send_offsets(topic, {0: 6}, member.metadata(), '{"owner":"a"}')
        producer.commit()
        assert (bed.committed(topic, 0), bed.note(topic, 0)) == (6, '{"owner":"a"}')

    def test_who_is_no_member_may_settle_in_a_transaction_while_there_are_members(self, bed: Bed) -> None:
        """So that a person can end a hold while the pipeline runs."""
        topic = bed.topic(1)
        member = alone(bed, topic, 1)
        member.commit({0: 3}, "held")
        producer = bed.producer("p")
        producer.begin()
        producer.send_offsets(topic, {0: 4}, bed.no_member(topic), "care")
        producer.commit()
        assert (bed.committed(topic, 0), bed.note(topic, 0)) == (4, "care")
        assert member.owned == {0}

    def test_a_plain_commit_wins_over_a_transaction_that_was_before_it(self, bed: Bed) -> None:
        """Also when the transaction ends later: so nobody may commit plainly while a plan is under way."""
        topic = bed.topic(1)
        member = alone(bed, topic, 1)
        producer = bed.producer("p")
        producer.begin()
        producer.send_offsets(topic, {0: 5}, member.metadata())
        member.commit({0: 3}, "note")
        producer.commit()
        assert (bed.committed(topic, 0), bed.note(topic, 0)) == (3, "note")

    def test_who_left_is_unknown(self, bed: Bed) -> None:
        """Metadata of a member that is gone is refused."""
        topic = bed.topic(1)
        member = alone(bed, topic, 1)
        metadata = member.metadata()
        member.leave()
        producer = bed.producer("p")
        producer.begin()
        with pytest.raises(RefusedError, match="UNKNOWN_MEMBER_ID"):
            producer.send_offsets(topic, {0: 1}, metadata)


class TestRebalance:
    def test_a_partition_is_given_up_before_it_is_given_away(self, bed: Bed) -> None:
        """Cooperative: its owner keeps the others all along, and no partition has two owners."""
        topic = bed.topic(3)
        member = alone(bed, topic, 3)
        other = bed.join("other", topic)
        bed.wait(lambda: len(member.owned) == 2 and len(other.owned) == 1)
        moved = other.owned
        assert bed.story == [
            ("member", "assigned", frozenset({0, 1, 2})),
            ("member", "revoked", moved),
            ("other", "assigned", moved),
        ]

    def test_what_is_revoked_may_be_settled_once_more(self, bed: Bed) -> None:
        """Inside the callback the generation has moved; with fresh metadata the commit is accepted."""
        topic = bed.topic(2)
        producer = bed.producer("p")

        def settle(member: Member, gone: frozenset[int]) -> None:
            producer.begin()
            producer.send_offsets(topic, dict.fromkeys(gone, 9), member.metadata())
            producer.commit()

        member = bed.join("member", topic, on_revoke=settle)
        bed.wait(lambda: len(member.owned) == 2)
        other = bed.join("other", topic)
        bed.wait(lambda: len(other.owned) == 1)
        (moved,) = other.owned
        assert bed.committed(topic, moved) == 9

    def test_what_a_member_leaves_goes_to_the_others(self, bed: Bed) -> None:
        """A member that goes is no reason to wait."""
        topic = bed.topic(2)
        member = alone(bed, topic, 2)
        other = bed.join("other", topic)
        bed.wait(lambda: len(member.owned) == len(other.owned) == 1)
        other.leave()
        bed.wait(lambda: len(member.owned) == 2)
        assert member.owned == {0, 1}

    @pytest.mark.case(11)
    def test_a_second_owner_of_an_instance_id_fences_the_first(self, bed: Bed) -> None:
        """It takes over the assignment; what the first says under its old name is refused."""
        topic = bed.topic(2)
        first = bed.join("first", topic, instance="slot")
        bed.wait(lambda: len(first.owned) == 2)
        old = first.metadata()
        second = bed.join("second", topic, instance="slot")
        bed.wait(lambda: len(second.owned) == 2)
        producer = bed.producer("p")
        producer.begin()
        with pytest.raises(RefusedError, match="FENCED_INSTANCE_ID"):
            producer.send_offsets(topic, {0: 1}, old)


def alone(bed: Bed, topic: str, partitions: int) -> Member:
    """A group's only member, with all partitions."""
    member = bed.join("member", topic)
    bed.wait(lambda: len(member.owned) == partitions)
    return member
