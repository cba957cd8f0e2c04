"""The first producer is made before its topics are known, and stays where it suits them."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from streamer.errors import ConfigurationError
from streamer.kafka.clients import Properties
from streamer.kafka.early_producer import EarlyProducer
from streamer.kafka.output_topics import Sizes

USUAL = (1_048_588, 1_112_588)


class Asked:
    """Producers without brokers, and the sizes that each was made for."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.ready: Future[None] = Future()
        self.topics = Sizes(0, 0)
        self.early = EarlyProducer(self.ready, lambda: self.topics, self._properties)

    def _properties(self, smallest: int, largest: int) -> Properties:
        self.sizes.append((smallest, largest))
        return {"bootstrap.servers": "", "batch.size": smallest, "message.max.bytes": largest}


@pytest.mark.parametrize(
    ("out", "dlq", "fits"),
    [
        (1_048_588, 1_112_588, True),  # as `streamer topics create` makes them beside an input by default
        (1_048_588, 1_048_588, True),
        (200_000, 1_112_588, False),  # a batch of the usual size would be refused
        (1_048_588, 8_000_000, False),  # a large dead letter would be refused by the client
        (2_000_000, 2_100_000, False),
    ],
)
def test_the_first_one_stays_where_it_suits(out: int, dlq: int, fits: bool) -> None:
    """It is made for what is usual; another one is made for what there is."""
    asked = Asked()
    asked.early.make().purge()
    assert asked.sizes == [USUAL]
    asked.topics = Sizes(out, dlq)
    asked.ready.set_result(None)
    assert asked.early.fits() is fits
    asked.early.make().purge()
    assert asked.sizes == [USUAL, (out, dlq)]
    assert asked.early.fits()


def test_what_is_wrong_with_the_topics_is_raised() -> None:
    """To who asks whether it fits, and to who waits for the topics."""
    asked = Asked()
    asked.early.make().purge()
    asked.ready.set_exception(ConfigurationError("the topics are not ready"))
    with pytest.raises(ConfigurationError, match="not ready"):
        asked.early.fits()
    with pytest.raises(ConfigurationError, match="not ready"):
        asked.early.await_limits()


def test_it_no_longer_fits_topics_that_have_changed() -> None:
    """They may be altered while a pipeline runs."""
    asked = Asked()
    asked.topics = Sizes(*USUAL)
    asked.ready.set_result(None)
    asked.early.make().purge()
    assert asked.early.fits()
    asked.topics = Sizes(2000, USUAL[1])
    assert not asked.early.fits()
