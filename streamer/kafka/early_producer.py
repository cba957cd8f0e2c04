"""A sink's producers, the first of them made before the topics are known.

What a producer has to know of its topics is how large a batch they take, and nearly always that is the brokers' own
default. So the first one is made for that: it connects, and ends what the slot's last owner left open, while the topics
are still looked at. Where they turn out otherwise, another one takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import Producer

from streamer.kafka.clients import Properties, make_producer
from streamer.kafka.output_limits import DEFAULT_MESSAGE_BYTES


class EarlyProducer:
    """Makes producers. `limits` will hold `max.message.bytes` of every topic written, or the exception that ends the
    start; `properties` takes the smallest and the largest of them."""

    def __init__(self, limits: Future[dict[str, int]], properties: Callable[[int, int], Properties]) -> None:
        self._limits = limits
        self._properties = properties
        self._made_for = (0, 0)

    def make(self) -> Producer:
        """A producer for the limits as far as they are known. Raises ConfigurationError."""
        self._made_for = self._sizes() if self._limits.done() else (DEFAULT_MESSAGE_BYTES, DEFAULT_MESSAGE_BYTES)
        return make_producer(self._properties(*self._made_for))

    def fits(self) -> bool:
        """Whether the last one suits the topics; waits until they are known. Raises what is wrong with them."""
        return self._made_for == self._sizes()

    def _sizes(self) -> tuple[int, int]:
        found = self._limits.result().values()
        return min(found), max(found)
