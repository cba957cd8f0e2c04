"""A sink's producers, the first of them made before the topics are known.

A producer has to know of its topics how large a batch the strictest takes and how large a record the most generous,
and nearly always these are the brokers' own default, and that with a dead letter's headers. So the first producer is
made for them: it connects, and ends what the slot's last owner left open, while the topics are still looked at. Where
they turn out stricter or more generous, another one takes its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import KafkaError, Producer

from streamer.kafka.clients import ErrorLog, Properties, make_producer
from streamer.kafka.output_topics import DEFAULT_MESSAGE_BYTES, Sizes
from streamer.kafka.topics import DEAD_LETTER_HEADROOM_BYTES

_USUAL = Sizes(DEFAULT_MESSAGE_BYTES, DEFAULT_MESSAGE_BYTES + DEAD_LETTER_HEADROOM_BYTES)


class EarlyProducer:
    """Makes producers. `ready` ends when `sizes` are known, or with the exception that ends the start; `properties`
    takes the smallest and the largest of them."""

    def __init__(
        self, ready: Future[None], sizes: Callable[[], Sizes], properties: Callable[[int, int], Properties]
    ) -> None:
        self._ready = ready
        self._sizes = sizes
        self._properties = properties
        self._made_for = _USUAL
        self._cut_off = threading.Event()

    @property
    def cut_off(self) -> bool:
        """Whether the newest producer has lost all brokers since it was made. It learns so when it is polled."""
        return self._cut_off.is_set()

    def make(self) -> Producer:
        """A producer for the limits as far as they are known. Raises ConfigurationError."""
        self._made_for = self._sizes() if self._ready.done() and not self._ready.exception() else _USUAL
        told, cut_off = ErrorLog(), threading.Event()

        def on_error(error: KafkaError) -> None:
            told(error)
            if error.code() == KafkaError._ALL_BROKERS_DOWN:
                cut_off.set()

        self._cut_off = cut_off
        return make_producer(self._properties(*self._made_for), on_error)

    def await_limits(self) -> None:
        """Wait until the topics are known. Raises what is wrong with them."""
        self._ready.result()

    def fits(self) -> bool:
        """Whether the last one suits the topics, which are awaited as by `await_limits`."""
        self.await_limits()
        found = self._sizes()
        return self._made_for.smallest <= found.smallest and found.largest <= self._made_for.largest
