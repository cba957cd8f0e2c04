"""Which events share one computation: those with equal keys. Nothing that is sampled each time shares anything."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from streamer.core.fingerprint import Fingerprinter
from streamer.core.pipeline.flights import Key
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import TextEvent

Keys = Callable[[list[TextEvent]], list[Key]]
"""One key an event, in order."""


def keys_for(card: ModelCard, policy: Policy, *, cached: bool) -> Keys:
    """How to key the events of this model; `cached` says whether answers are looked up by key, too."""
    if not card.cacheable:
        return UniqueKeys().keys
    keys: Keys = plain_keys
    if cached:
        keys = Fingerprinter(card, policy.settings).keys  # type: ignore[assignment]
    return keys if card.temperature is None else RepeatableKeys(keys, card.temperature).keys


def plain_keys(events: list[TextEvent]) -> list[Key]:
    """Keys for single flight alone: equal inputs, equal keys; nothing is hashed for a cache that is off."""
    return [
        event.text
        if event.text_pair is None and event.params is None
        else (event.text, event.text_pair, msgspec.json.encode(event.params, order="deterministic"))
        for event in events
    ]


class UniqueKeys:
    """Keys of a model whose answers must not be shared: every record has its own."""

    def __init__(self) -> None:
        self._next = 0

    def keys(self, events: list[TextEvent]) -> list[Key]:
        """Numbers that come once."""
        first = self._next
        self._next += len(events)
        return list(range(first, self._next))


def draws_at_random(event: TextEvent, default_temperature: float) -> bool:
    """Whether a model that samples at `default_temperature` where an event names none draws this event's answer
    at random. A seed makes it repeatable; a filter (top_p, top_k) without a temperature asks to sample."""
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
    """Keys of a model that may sample: an event that is sampled each time gets a number of its own, which no other
    event ever has."""

    def __init__(self, keys: Keys, default_temperature: float) -> None:
        self._keys = keys
        self._default_temperature = default_temperature
        self._next = 0

    def keys(self, events: list[TextEvent]) -> list[Key]:
        """One key an event, in order."""
        keys = self._keys(events)
        for index, event in enumerate(events):
            if draws_at_random(event, self._default_temperature):
                keys[index] = self._next
                self._next += 1
        return keys
