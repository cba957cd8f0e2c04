"""Answers that are drawn anew each time are shared by nobody and kept nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from streamer.core.pipeline.keys import draws_at_random
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import CacheAnswered, Dispatch, LookUp, Store
from streamer.core.record import TextEvent
from tests.unit.pipeline_kit import CARD, Kit, segment, taken

SAMPLING = replace(CARD, task="text-generation", temperature=0.0)
CACHED = Policy("p", lru_bytes=1 << 20, shared_cache=True)


def value(text: str, **params: Any) -> bytes:
    """A record's value with params."""
    return json.dumps({"text": text, "params": params}).encode()


@pytest.mark.parametrize(
    ("params", "default_temperature", "anew"),
    [
        (None, 0.0, False),
        (None, 0.7, True),
        ({"max_new_tokens": 3}, 0.0, False),
        ({"temperature": 0}, 0.7, False),
        ({"temperature": 0.7}, 0.0, True),
        ({"temperature": 0.7, "seed": 0}, 0.0, False),
        ({"temperature": 0.7, "seed": None}, 0.0, True),
        ({"top_p": 0.9}, 0.0, True),
        ({"top_k": 5}, 0.0, True),
        ({"top_k": 5, "temperature": 0}, 0.0, False),
        ({"seed": 1}, 0.7, False),
        ({"temperature": "hot"}, 0.0, True),
    ],
)
def test_which_events_are_drawn_anew(params: dict[str, Any] | None, default_temperature: float, anew: bool) -> None:
    """Those that sample and name no seed."""
    assert draws_at_random(TextEvent("a", params=params), default_temperature) is anew


def test_events_drawn_anew_are_computed_each_by_itself() -> None:
    """Without single flight, look-up or store; the others share theirs as ever."""
    kit = Kit(CACHED, SAMPLING)
    values = [value("a", temperature=1), value("a", temperature=1), value("a"), value("a"), value("b", top_k=2, seed=1)]
    kit.feed(taken(1, segment(values)))
    (look_up,) = kit.of(LookUp)
    assert len(look_up.keys) == 2
    kit.feed(CacheAnswered(look_up.lookup, [None, None]))
    assert sum(len(dispatch.work.texts) for dispatch in kit.of(Dispatch)) == 4
    for dispatch in kit.of(Dispatch):
        kit.answer(dispatch)
    stored = [key for store in kit.of(Store) for key, _ in store.entries]
    assert sorted(stored) == sorted(look_up.keys)
    kit.feed(taken(2, segment(values[1:3], first=5)))
    assert kit.last_work().work.texts == ["a"]


def test_nothing_is_looked_up_when_all_is_drawn_anew() -> None:
    """A shared cache is not asked for nothing."""
    kit = Kit(CACHED, SAMPLING)
    kit.feed(taken(1, segment([value("a", temperature=1)])))
    assert not kit.of(LookUp)
    assert kit.last_work().work.texts == ["a"]


def test_without_a_cache_single_flight_is_passed_by_too() -> None:
    """Each record has a sample of its own."""
    kit = Kit(card=SAMPLING)
    kit.feed(taken(1, segment([value("a", temperature=1), value("a", temperature=1), value("a"), value("a")])))
    assert kit.last_work().work.texts == ["a", "a", "a"]
