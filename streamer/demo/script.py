"""What the demo sends, in order: the events with the poison records among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import msgspec

from streamer import demo
from streamer.core.record import Headers

# One event in so many comes with a sampled trace of its producer, as a service that traces 1 % would send it.
TRACED_EVERY = 100

SHIFTED_SHARE = 5
"""The last events, one in so many, are another mix."""
NEGATIVE = 0.6
"""So many of those people found negative; of all events a quarter."""


@dataclass(frozen=True, slots=True)
class Item:
    """A record to send; `poison` is what is wrong with it, None for an event."""

    key: bytes
    value: bytes | None
    headers: Headers
    poison: demo.Poison | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """The records in order. The first goes alone and finds out when the pipelines are ready. Those from number `shift`
    on are another mix."""

    items: list[Item]
    shift: int

    @property
    def events(self) -> int:
        """How many items are events."""
        return sum(item.poison is None for item in self.items)


def script(events: int) -> Script:
    """The first `events` events, those of the other mix last, and all poison records evenly spread among them."""
    chosen = _shifted(list(islice(demo.events(), events)))
    items = [
        Item(key, value, _trace(value) if number % TRACED_EVERY == 0 else [])
        for number, (key, value) in enumerate(chosen)
    ]
    first = items[events - events // SHIFTED_SHARE]
    poison = demo.poison()
    for number, one in reversed(list(enumerate(poison))):
        headers: Headers = [*one.headers]
        items.insert(
            len(items) * (2 * number + 1) // (2 * len(poison)), Item(one.name.encode(), one.value, headers, one)
        )
    return Script(items, items.index(first))


def _shifted(events: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The events with more negative ones in the last part. They are taken evenly from all, and no text's first event is
    if it is repeated, so that nothing else moves: neither the mix of those before nor the share of repeats."""
    bodies = [msgspec.json.decode(value) for _, value in events]
    texts = [body["text"] for body in bodies]
    firsts = {text: number for number, text in reversed(list(enumerate(texts)))}
    free = [number for number, text in enumerate(texts) if firsts[text] != number or texts.count(text) == 1]
    size = len(events) // SHIFTED_SHARE

    def taken(wanted: Callable[[float], bool], count: int) -> list[int]:
        found = [number for number in free if wanted(bodies[number]["metadata"]["human_score"])]
        count = min(count, len(found))
        return [found[at * len(found) // count] for at in range(count)]

    negative = taken(lambda score: score < 0, round(NEGATIVE * size))
    last = set(negative + taken(lambda score: score >= 0, size - len(negative)))
    return [event for number, event in enumerate(events) if number not in last] + [
        events[number] for number in sorted(last)
    ]


def _trace(value: bytes) -> Headers:
    """A `traceparent` (https://www.w3.org/TR/trace-context/), the same for the same event."""
    digest = hashlib.sha256(value).hexdigest()
    return [("traceparent", f"00-{digest[:32]}-{digest[32:48]}-01".encode())]
