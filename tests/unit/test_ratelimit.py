from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.ratelimit import TokenBucket


def test_it_gives_the_burst_then_the_rate() -> None:
    """Full at first; then as much as time has brought."""
    bucket = TokenBucket(10.0)
    assert bucket.take(25, 0.0) == 10
    assert bucket.take(25, 0.0) == 0
    assert bucket.take(25, 0.5) == 5
    assert bucket.take(3, 1.0) == 3
    assert bucket.take(25, 60.0) == 10


def test_a_rate_of_zero_gives_nothing() -> None:
    """0 switches the thing off."""
    bucket = TokenBucket(0.0)
    assert [bucket.take(5, now) for now in (0.0, 1e9)] == [0, 0]


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(-0.5, 2.0), st.integers(0, 3000)), min_size=1, max_size=40),
)
def test_it_never_gives_more_than_burst_and_rate_allow(rate: int, steps: list[tuple[float, int]]) -> None:
    """Whatever is asked when, the sum stays within one burst and the rate times the time that went forward."""
    bucket, now, given_out, forward = TokenBucket(float(rate)), 0.0, 0, 0.0
    for passed, wanted in steps:
        now += passed
        forward += max(0.0, passed)
        granted = bucket.take(wanted, now)
        assert 0 <= granted <= wanted
        given_out += granted
    assert given_out <= rate + rate * forward + 1e-6
