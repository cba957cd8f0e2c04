"""The producers of a sink, one after the other, each made for what the topics take at that time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, Producer

from streamer.kafka.clients import ErrorLog, Properties, make_producer
from streamer.kafka.output_topics import Sizes


class Producers:
    """Makes producers; `properties` takes the smallest and the largest of the `sizes` that the topics have."""

    def __init__(self, sizes: Callable[[], Sizes], properties: Callable[[int, int], Properties]) -> None:
        self._sizes = sizes
        self._properties = properties
        self._made_for = Sizes(0, 0)
        self._cut_off = threading.Event()

    @property
    def cut_off(self) -> bool:
        """Whether the newest producer has lost all brokers since it was made. It learns so when it is polled."""
        return self._cut_off.is_set()

    def make(self, on_delivery: Callable[[Any, Any], None]) -> Producer:
        """Another one, whose failed deliveries are told. Raises ConfigurationError."""
        self._made_for = self._sizes()
        told, cut_off = ErrorLog(), threading.Event()

        def on_error(error: KafkaError) -> None:
            told(error)
            if error.code() == KafkaError._ALL_BROKERS_DOWN:
                cut_off.set()

        self._cut_off = cut_off
        return make_producer({**self._properties(*self._made_for), "on_delivery": on_delivery}, on_error)

    def fits(self) -> bool:
        """Whether the last one suits the topics as they are now."""
        found = self._sizes()
        return self._made_for.smallest <= found.smallest and found.largest <= self._made_for.largest
