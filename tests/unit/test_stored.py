from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.record import Answer
from streamer.core.stored import MAX_VALUE_BYTES, decode, encode

KEY = b"k" * 32
OTHER_KEY = b"l" * 32

answers = st.builds(
    Answer,
    output=st.sampled_from([b"{}", b'{"label":"A"}', b"[1,2]", b'"text"', b"-0.5", b"true", b"null"]),
    truncated=st.booleans(),
    tokens=st.integers(0, 2**32 - 1),
)


def value_of(answer: Answer, key: bytes = KEY) -> bytes:
    return encode([(key, answer)])[0][1]


@given(answers)
def test_what_was_stored_comes_back_as_cached(answer: Answer) -> None:
    """All fields survive; `cached` is set."""
    assert decode([KEY], [value_of(answer)]) == [Answer(answer.output, answer.truncated, True, answer.tokens)]


@pytest.mark.case(33)
@given(answers, st.data())
def test_a_flipped_bit_is_a_miss(answer: Answer, data: st.DataObject) -> None:
    """One wrong bit anywhere in the value is found."""
    value = bytearray(value_of(answer))
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    assert decode([KEY], [bytes(value)]) == [None]


@given(answers, st.data())
def test_a_cut_value_is_a_miss(answer: Answer, data: st.DataObject) -> None:
    """A value that ends early is found, wherever it ends."""
    value = value_of(answer)
    assert decode([KEY], [value[: data.draw(st.integers(0, len(value) - 1))]]) == [None]


@given(st.binary(max_size=200))
def test_bytes_of_somebody_else_are_a_miss(value: bytes) -> None:
    """No accidental bytes are taken for an answer, and none raise."""
    assert decode([KEY], [value]) == [None]


@pytest.mark.case(33)
def test_a_value_under_another_key_is_a_miss() -> None:
    """A right value in a wrong place is not believed."""
    assert decode([OTHER_KEY], [value_of(Answer(b"{}"))]) == [None]


def test_an_output_that_is_no_json_is_a_miss() -> None:
    """It would break the result that it is put into."""
    assert decode([KEY], [value_of(Answer(b"oops"))]) == [None]


@pytest.mark.case(33)
def test_a_value_of_another_version_is_a_miss() -> None:
    """What an older or newer release wrote is left alone."""
    value = value_of(Answer(b"{}"))
    assert decode([KEY], [bytes([value[0] + 1]) + value[1:]]) == [None]


def test_too_large_an_answer_is_not_stored() -> None:
    """The limit holds on writing; the neighbours are stored."""
    entries = [(KEY, Answer(b'"' + b"x" * MAX_VALUE_BYTES + b'"')), (OTHER_KEY, Answer(b"{}"))]
    assert [key for key, _ in encode(entries)] == [OTHER_KEY]


def test_too_large_a_value_is_a_miss() -> None:
    """The limit holds on reading, too."""
    head, largest = 10, MAX_VALUE_BYTES - 10
    value = value_of(Answer(b"[" + b" " * (largest - 2) + b"]"))
    assert len(value) == MAX_VALUE_BYTES == head + largest
    assert decode([KEY], [value]) != [None]
    assert decode([KEY], [value + b" "]) == [None]


def test_a_reply_of_another_length_raises() -> None:
    """A server that answers for fewer keys than asked is not taken at its word."""
    with pytest.raises(ValueError, match="shorter"):
        decode([KEY, OTHER_KEY], [None])
