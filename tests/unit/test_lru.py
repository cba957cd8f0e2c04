from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.lru import ENTRY_OVERHEAD_BYTES, LRU
from streamer.core.record import Answer


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def entry_bytes(output_bytes: int) -> int:
    return output_bytes + ENTRY_OVERHEAD_BYTES


def test_what_was_put_comes_back_marked_as_cached() -> None:
    """An answer comes back as it was, but for `cached`."""
    lru = LRU(10_000)
    lru.put(key(1), Answer(b'{"a":1}', truncated=True, tokens=7, measures=b"m"))
    assert lru.get(key(1)) == Answer(b'{"a":1}', truncated=True, cached=True, tokens=7, measures=b"m")
    assert lru.get(key(2)) is None


def test_many_answers_come_in_the_order_of_their_keys() -> None:
    """`get_many` has one entry a key, None where there is none."""
    lru = LRU(10_000)
    lru.put_many([(key(1), Answer(b"1")), (key(2), Answer(b"2"))])
    found = lru.get_many([key(2), key(3), key(1), key(2)])
    assert [answer and answer.output for answer in found] == [b"2", None, b"1", b"2"]


def test_the_least_recently_used_goes_first() -> None:
    """A get saves an entry from being the next to go."""
    lru = LRU(2 * entry_bytes(1))
    lru.put_many([(key(1), Answer(b"1")), (key(2), Answer(b"2"))])
    lru.get(key(1))
    lru.put(key(3), Answer(b"3"))
    assert [lru.get(key(n)) is not None for n in (1, 2, 3)] == [True, False, True]


def test_an_answer_larger_than_all_is_not_kept_and_drops_no_other() -> None:
    """One huge answer does not empty the memory."""
    lru = LRU(2 * entry_bytes(1))
    lru.put(key(1), Answer(b"1"))
    lru.put(key(2), Answer(b"x" * 1000))
    assert lru.get(key(1)) is not None and lru.get(key(2)) is None


def test_no_capacity_keeps_nothing() -> None:
    """A capacity of 0 switches the memory off."""
    lru = LRU(0)
    lru.put(key(1), Answer(b""))
    assert len(lru) == 0 and lru.get(key(1)) is None and lru.size_bytes == 0


@given(
    st.integers(0, 4 * entry_bytes(20)),
    st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 600)), max_size=60),
)
def test_it_agrees_with_a_plain_model(capacity: int, steps: list[tuple[bool, int, int]]) -> None:
    """After any puts and gets the same entries are kept as by the plain rule, and the size is their sum."""
    lru, model = LRU(capacity), OrderedDict[bytes, int]()
    for is_put, number, output_bytes in steps:
        if not is_put:
            assert (lru.get(key(number)) is not None) == (key(number) in model)
            if key(number) in model:
                model.move_to_end(key(number))
            continue
        lru.put(key(number), Answer(b"x" * output_bytes))
        model.pop(key(number), None)
        if entry_bytes(output_bytes) <= capacity:
            model[key(number)] = output_bytes
            while sum(map(entry_bytes, model.values())) > capacity:
                model.popitem(last=False)
        assert lru.size_bytes == sum(map(entry_bytes, model.values())) <= capacity
        assert len(lru) == len(model)
