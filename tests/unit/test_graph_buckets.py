"""Which recorded pass serves which: every pass that has a bucket fits into it as a kernel needs it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.inference.backends.graph_buckets import MOST_TOKENS, KeptGraphs, PassBucket, bucket_of, padding_of

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=80)


@given(LENGTHS)
def test_padding_fills_a_pass_up_to_its_bucket(lengths: list[int]) -> None:
    """No sequence is empty, none is longer than what the recorded kernel was told, and all add up."""
    tokens, sequences, longest = sum(lengths), len(lengths), max(lengths)
    bucket = bucket_of(tokens, sequences, longest)
    if bucket is None:
        return
    padding = padding_of(bucket, tokens, sequences)
    assert sequences + len(padding) == bucket.sequences
    assert tokens + sum(padding) == bucket.tokens <= MOST_TOKENS
    assert all(1 <= length <= bucket.longest for length in padding)
    assert longest <= bucket.longest < max(32, 2 * longest)


@given(LENGTHS)
def test_live_windows_have_a_bucket_and_little_padding(lengths: list[int]) -> None:
    """What is computed in vain is an eighth, the added sequences' own, and what the smallest bucket has."""
    tokens, sequences = sum(lengths), len(lengths)
    bucket = bucket_of(tokens, sequences, max(lengths))
    assert bucket is not None or tokens > MOST_TOKENS // 2
    if bucket is not None:
        added = bucket.sequences - sequences
        assert bucket.tokens <= max(64, (tokens + added) * 9 // 8 + 64)


def test_the_longest_sequence_is_part_of_the_key() -> None:
    """Two passes of the same tokens and sequences must not share a kernel that was told of shorter ones."""
    short, long = bucket_of(200, 8, 30), bucket_of(200, 8, 180)
    assert short is not None
    assert long is not None
    assert (short.tokens, short.sequences) == (long.tokens, long.sequences)
    assert (short.longest, long.longest) == (32, 256)


def test_a_pass_that_is_a_bucket_already_is_not_padded() -> None:
    """Of 4 × 16 tokens."""
    bucket = bucket_of(64, 4, 16)
    assert bucket == PassBucket(64, 4, 16)
    assert padding_of(bucket, 64, 4) == []


def test_large_passes_run_as_they_are() -> None:
    """Their launches cost nothing beside their arithmetic."""
    assert bucket_of(MOST_TOKENS + 1, 40, 500) is None


def test_a_recording_is_made_when_a_key_has_come_often_and_the_oldest_goes() -> None:
    """The third time; and after it was let go it has to come as often again."""
    kept: KeptGraphs[str] = KeptGraphs(2, 100, after=2)
    assert [kept.wants("a") for _ in range(3)] == [False, False, True]
    for key in "ab":
        kept.make_room()
        kept.put(key, key.upper(), 1)
    assert kept.find("a") == "A"  # used last: "b" goes
    kept.make_room()
    kept.put("c", "C", 1)
    assert (len(kept), kept.find("a"), kept.find("b"), kept.find("c")) == (2, "A", None, "C")
    assert [kept.wants("b") for _ in range(3)] == [False, False, True]


def test_recordings_take_bounded_memory() -> None:
    """Those that are there go on; after all were let go there is room again."""
    kept: KeptGraphs[str] = KeptGraphs(9, 100, after=0)
    assert kept.wants("a")
    kept.put("a", "A", 101)
    assert not kept.wants("b")
    assert kept.find("a") == "A"
    kept.clear()
    assert kept.find("a") is None
    assert kept.wants("b")
