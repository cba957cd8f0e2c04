from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.core.fingerprint import KEY_BYTES, Fingerprinter
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import TextEvent

CARD = ModelCard(name="m", revision="f" * 64, task="text-classification", dtype="float32", backend="torch")

# Few letters, so that equal joins of different fields ("a" + "bc", "ab" + "c") come up often.
words = st.text(alphabet="ab\x00tqp", max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
params = st.none() | st.dictionaries(words, json_values, max_size=3)
fields = st.tuples(words, words, params.map(lambda p: p or {}), words, words, words, words, st.none() | words, params)


def key_of(values: tuple[Any, ...]) -> bytes:
    revision, task, options, dtype, backend, implementation, text, pair, params = values
    card = replace(CARD, revision=revision, task=task, dtype=dtype, backend=backend, implementation=implementation)
    return Fingerprinter(card, options).keys([TextEvent(text=text, text_pair=pair, params=params)])[0]


def frozen(value: Any) -> Any:
    """Equality as JSON has it: True is not 1, the order of an object's keys does not count."""
    if isinstance(value, dict):
        return frozenset((name, frozen(inner)) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return tuple(frozen(inner) for inner in value)
    return (type(value), value)


@given(fields, fields)
def test_keys_are_equal_exactly_when_all_fields_are(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """No two different inputs share a key, and the same input always has the same one."""
    assert (key_of(one) == key_of(other)) == (frozen(one) == frozen(other))


@pytest.mark.case(33, 34)
@given(fields, st.integers(0, 8), st.data())
def test_each_single_field_counts(one: tuple[Any, ...], index: int, data: st.DataObject) -> None:
    """A change in any one field changes the key."""
    kinds = {2: params.map(lambda p: p or {}), 7: st.none() | words, 8: params}
    changed = data.draw(kinds.get(index, words).filter(lambda value: frozen(value) != frozen(one[index])))
    other = (*one[:index], changed, *one[index + 1 :])
    assert key_of(one) != key_of(other)


@given(st.lists(words, min_size=3, max_size=3))
def test_bytes_can_not_move_from_one_field_to_the_next(parts: list[str]) -> None:
    """Where a field's content looks like the start of the next field, the two readings have different keys."""
    one, two, three = (part or "a" for part in parts)
    fingerprinter = Fingerprinter(CARD, {})
    pairs = [
        TextEvent(text_pair=f"{one}t{two}", text=three),
        TextEvent(text_pair=one, text=f"{two}t{three}"),
    ]
    assert len(set(fingerprinter.keys(pairs))) == 2
    cards = [
        replace(CARD, revision=f"{one}T{two}", task=three),
        replace(CARD, revision=one, task=f"{two}T{three}"),
    ]
    event = [TextEvent(text="a")]
    assert len({Fingerprinter(card, {}).keys(event)[0] for card in cards}) == 2


@given(st.dictionaries(words, json_values, min_size=2, max_size=5))
def test_the_order_of_params_does_not_matter(given_params: dict[str, Any]) -> None:
    """The same params in another order make the same key, and so do the same options."""
    turned = dict(reversed(given_params.items()))
    keys = Fingerprinter(CARD, {}).keys(
        [TextEvent(text="a", params=given_params), TextEvent(text="a", params=turned)],
    )
    assert keys[0] == keys[1]
    event = [TextEvent(text="a")]
    assert Fingerprinter(CARD, given_params).keys(event) == Fingerprinter(CARD, turned).keys(event)


def test_values_that_json_writes_alike_are_different_options() -> None:
    """TOML has infinities, NaN and dates, which a class of the operator's may be given as options."""
    values = [float("inf"), float("-inf"), float("nan"), None, 1, 1.0, True, date(2026, 1, 1), "2026-01-01"]
    event = [TextEvent(text="a")]
    assert len({Fingerprinter(CARD, {"x": value}).keys(event)[0] for value in values}) == len(values)


def test_one_gpu_is_as_good_as_another() -> None:
    """And another kind of device computes other numbers."""
    devices = ("cpu", "cuda", "cuda:0", "cuda:1")
    keys = [Fingerprinter(replace(CARD, device=device), {}).keys([TextEvent(text="a")])[0] for device in devices]
    assert keys[0] != keys[1] == keys[2] == keys[3]


def test_an_absent_pair_is_not_an_empty_one() -> None:
    """None and "" are different second texts."""
    absent, empty = Fingerprinter(CARD, {}).keys([TextEvent(text="a"), TextEvent(text="a", text_pair="")])
    assert absent != empty


def test_id_and_metadata_do_not_reach_the_key() -> None:
    """Two records with the same input share a key whatever they are called."""
    one, other = Fingerprinter(CARD, {}).keys([TextEvent(text="a", id="1"), TextEvent(text="a", id=2)])
    assert one == other and len(one) == KEY_BYTES


def test_keys_come_in_the_order_of_the_events() -> None:
    """Key i belongs to event i, also where the same text comes twice."""
    fingerprinter = Fingerprinter(CARD, {})
    texts = ["b", "a", "b", "c"]
    together = fingerprinter.keys(TextEvent(text=text) for text in texts)
    assert together == [fingerprinter.keys([TextEvent(text=text)])[0] for text in texts]


def test_a_lone_surrogate_has_a_key() -> None:
    """A text that is not valid Unicode costs no neighbour its key."""
    keys = Fingerprinter(CARD, {}).keys([TextEvent(text="\ud800"), TextEvent(text="?")])
    assert len(set(keys)) == 2


def test_the_key_is_stable_between_releases() -> None:
    """The key of a known input stays what it is: a change here empties every cache in use, so it must be meant."""
    key = Fingerprinter(CARD, {"top_k": 1}).keys([TextEvent(text="good", text_pair="bad", params={"b": 1, "a": [2]})])[
        0
    ]
    assert key.hex() == "d8ffe42a69bacbe612b00df4518ebe5f9da2dc0e1e23128fb7b266edb8cb6d1e"
