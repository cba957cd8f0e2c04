"""What the demo sends, in order: the events with the poison records among them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice

from streamer import demo
from streamer.core.record import Headers

# One event in so many comes with a sampled trace of its producer, as a service that traces 1 % would send it.
TRACED_EVERY = 100


@dataclass(frozen=True, slots=True)
class Item:
    """A record to send; `poison` is what is wrong with it, None for an event."""

    key: bytes
    value: bytes | None
    headers: Headers
    poison: demo.Poison | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """The records in order. The first goes alone and finds out when the pipelines are ready."""

    items: list[Item]

    @property
    def events(self) -> int:
        """How many items are events."""
        return sum(item.poison is None for item in self.items)


def script(events: int) -> Script:
    """The first `events` events, and all poison records evenly spread among them."""
    items = [
        Item(key, value, _trace(value) if number % TRACED_EVERY == 0 else [])
        for number, (key, value) in enumerate(islice(demo.events(), events))
    ]
    poison = demo.poison()
    for number, one in reversed(list(enumerate(poison))):
        headers: Headers = [*one.headers]
        items.insert(
            len(items) * (2 * number + 1) // (2 * len(poison)), Item(one.name.encode(), one.value, headers, one)
        )
    return Script(items)


def _trace(value: bytes) -> Headers:
    """A `traceparent` (https://www.w3.org/TR/trace-context/), the same for the same event."""
    digest = hashlib.sha256(value).hexdigest()
    return [("traceparent", f"00-{digest[:32]}-{digest[32:48]}-01".encode())]
