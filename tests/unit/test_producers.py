"""A producer is made for its topics, and another one takes its place where they have changed."""

from __future__ import annotations

import pytest

from streamer.kafka.clients import Properties
from streamer.kafka.output_topics import Sizes
from streamer.kafka.producers import Producers


class Asked:
    """Producers without brokers, and the sizes that each was made for."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.topics = Sizes(1_048_588, 1_112_588)
        self.producers = Producers(lambda: self.topics, self._properties)

    def make(self) -> None:
        self.producers.make(lambda *_: None).purge()

    def _properties(self, smallest: int, largest: int) -> Properties:
        self.sizes.append((smallest, largest))
        return {"bootstrap.servers": "", "batch.size": smallest, "message.max.bytes": largest}


@pytest.mark.parametrize(
    ("out", "dlq", "fits"),
    [
        (1_048_588, 1_112_588, True),
        (1_048_588, 1_048_588, True),
        (200_000, 1_112_588, False),  # a batch of the size of before would be refused
        (1_048_588, 8_000_000, False),  # a large dead letter would be refused by the client
        (2_000_000, 2_100_000, False),
    ],
)
def test_it_stays_as_long_as_it_suits(out: int, dlq: int, fits: bool) -> None:
    """Topics may be altered while a pipeline runs; the next producer is made for what there is then."""
    asked = Asked()
    asked.make()
    assert asked.sizes == [(1_048_588, 1_112_588)] and asked.producers.fits()
    asked.topics = Sizes(out, dlq)
    assert asked.producers.fits() is fits
    asked.make()
    assert asked.sizes[1:] == [(out, dlq)] and asked.producers.fits()
