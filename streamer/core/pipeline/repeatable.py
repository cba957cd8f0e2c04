"""Which events have the same answer each time: those that sample without a seed have not, and share nothing."""

from __future__ import annotations

from collections.abc import Callable

from streamer.core.pipeline.flights import Key
from streamer.core.record import TextEvent


def samples_anew(event: TextEvent, default_temperature: float) -> bool:
    """Whether a model that samples at `default_temperature` where an event names none draws this event's answer
    anew each time. A seed makes it repeatable; a filter (top_p, top_k) without a temperature asks to sample."""
    params = event.params
    if params is None:
        return default_temperature > 0
    if params.get("seed") is not None:
        return False
    temperature = params.get("temperature")
    if temperature is None:
        return default_temperature > 0 or params.get("top_p") is not None or params.get("top_k") is not None
    return not isinstance(temperature, int | float) or temperature > 0


class RepeatableKeys:
    """Keys of a model that may sample: an event that is drawn anew gets a number of its own, which no other event
    ever has."""

    def __init__(self, keys: Callable[[list[TextEvent]], list[Key]], default_temperature: float) -> None:
        self._keys = keys
        self._default_temperature = default_temperature
        self._next = 0

    def keys(self, events: list[TextEvent]) -> list[Key]:
        """One key an event, in order."""
        keys = self._keys(events)
        for index, event in enumerate(events):
            if samples_anew(event, self._default_temperature):
                keys[index] = self._next
                self._next += 1
        return keys
