from __future__ import annotations

from itertools import chain

import msgspec
import numpy as np

from streamer.inference.backends.numbers import float32_lists


def test_numbers_read_back_to_the_same_float32() -> None:
    """Of every magnitude, both signs, zero and the smallest ones included."""
    generator = np.random.default_rng(0)
    exponents = generator.uniform(-44, 38, (100, 384))
    rows = (generator.choice([-1.0, 1.0], exponents.shape) * 10**exponents).astype(np.float32)
    rows[0, :4] = (0.0, -0.0, float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))
    read = np.array(msgspec.json.decode(msgspec.json.encode(float32_lists(rows))), dtype=np.float32)
    assert np.array_equal(read, rows)


def test_numbers_are_short() -> None:
    """At most ten significant digits each, where the same numbers as doubles have seventeen."""
    rows = np.random.default_rng(0).normal(0, 0.05, (10, 384)).astype(np.float32)
    for number in chain.from_iterable(float32_lists(rows)):
        digits = repr(abs(number)).partition("e")[0].replace(".", "").lstrip("0")
        assert len(digits) <= 10
