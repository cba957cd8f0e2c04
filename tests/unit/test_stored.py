from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.measures import pack
from streamer.core.record import Answer
from streamer.core.results.outputs import OUTPUTS, parser_of
from streamer.core.stored import MAX_VALUE_BYTES, Vault
from streamer.inference.tasks.families import TASKS

KEY = b"k" * 32
OTHER_KEY = b"l" * 32
VAULT = Vault(b"s" * 64)
SCHEMAS = Path(__file__).parents[2] / "schemas" / "outputs"
HEAD_BYTES = 22

answers = st.builds(
    Answer,
    output=st.sampled_from([b"{}", b'{"label":"A"}', b"[1,2]", b'"text"', b"-0.5", b"true", b"null"]),
    truncated=st.booleans(),
    tokens=st.integers(0, 2**32 - 1),
    measures=st.sampled_from([b"", pack(3, 19, 0), pack(0, repetition=1) + bytes(range(16)) * 2]),
)


def value_of(answer: Answer, key: bytes = KEY, vault: Vault = VAULT) -> bytes:
    return vault.encode([(key, answer)])[0][1]


@given(answers)
def test_what_was_stored_comes_back_as_cached(answer: Answer) -> None:
    """All fields survive; `cached` is set."""
    assert VAULT.decode([KEY], [value_of(answer)]) == [msgspec.structs.replace(answer, cached=True)]


def test_measures_that_are_none_are_a_miss() -> None:
    """They have bins that no report has."""
    wrong = pack(0, 19, 0)[:-1] + b"\x20"
    assert VAULT.decode([KEY], [value_of(Answer(b"{}", measures=wrong))]) == [None]


@pytest.mark.case(33)
@given(answers, st.data())
def test_a_flipped_bit_is_a_miss(answer: Answer, data: st.DataObject) -> None:
    """One wrong bit anywhere in the value is found."""
    value = bytearray(value_of(answer))
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    assert VAULT.decode([KEY], [bytes(value)]) == [None]


@given(answers, st.data())
def test_a_cut_value_is_a_miss(answer: Answer, data: st.DataObject) -> None:
    """A value that ends early is found, wherever it ends."""
    value = value_of(answer)
    assert VAULT.decode([KEY], [value[: data.draw(st.integers(0, len(value) - 1))]]) == [None]


@given(st.binary(max_size=200))
def test_bytes_of_somebody_else_are_a_miss(value: bytes) -> None:
    """No accidental bytes are taken for an answer, and none raise."""
    assert VAULT.decode([KEY], [value]) == [None]


@pytest.mark.case(33)
def test_a_value_under_another_key_is_a_miss() -> None:
    """A right value in a wrong place is not believed."""
    assert VAULT.decode([OTHER_KEY], [value_of(Answer(b"{}"))]) == [None]


@pytest.mark.parametrize("secret", [b"t" * 64, b"s" * 63, b""])
def test_a_value_of_another_secret_is_a_miss(secret: bytes) -> None:
    """Whoever does not know the secret makes no value that is believed, whatever else of the form it knows."""
    other = Vault(secret)
    assert VAULT.decode([KEY], [value_of(Answer(b"{}"), vault=other)]) == [None]
    assert other.name != VAULT.name


def test_a_vault_tells_its_secret_to_nobody() -> None:
    """Its name and its repr are shown in Redis' keys and perhaps in a log."""
    secret = os.urandom(32)
    vault = Vault(secret)
    assert secret.hex() not in repr(vault) + vault.name and repr(secret) not in repr(vault)


@pytest.mark.parametrize(
    "output",
    [
        b"oops",
        b"{",
        b'{"a":1}x',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b'{"a":1},"id":"x","b":{}',
        b'{"a":1e999}',
        b"[" * 100_000,
    ],
)
def test_an_output_that_is_no_json_is_a_miss(output: bytes) -> None:
    """It would break the result that it is put into, or every reader's parser; even under a right seal."""
    assert VAULT.decode([KEY], [value_of(Answer(output))]) == [None]


@pytest.mark.case(33)
def test_a_value_of_another_version_is_a_miss() -> None:
    """What an older or newer release wrote is left alone."""
    value = value_of(Answer(b"{}"))
    assert VAULT.decode([KEY], [bytes([value[0] + 1]) + value[1:]]) == [None]


def test_too_large_an_answer_is_not_stored() -> None:
    """The limit holds on writing; the neighbours are stored."""
    entries = [(KEY, Answer(b'"' + b"x" * MAX_VALUE_BYTES + b'"')), (OTHER_KEY, Answer(b"{}"))]
    assert [key for key, _ in VAULT.encode(entries)] == [OTHER_KEY]


def test_too_large_a_value_is_a_miss() -> None:
    """The limit holds on reading, too."""
    largest = MAX_VALUE_BYTES - HEAD_BYTES
    value = value_of(Answer(b"[" + b" " * (largest - 2) + b"]"))
    assert len(value) == MAX_VALUE_BYTES
    assert VAULT.decode([KEY], [value]) != [None]
    assert VAULT.decode([KEY], [value + b" "]) == [None]


def test_a_reply_of_another_length_raises() -> None:
    """A server that answers for fewer keys than asked is not taken at its word."""
    with pytest.raises(ValueError, match="shorter"):
        VAULT.decode([KEY, OTHER_KEY], [None])


# --- without a secret ------------------------------------------------------------------------------------------------


def open_vault(task: str) -> Vault:
    return Vault(b"", parser_of(task))


def believed(task: str, output: bytes) -> bool:
    vault = open_vault(task)
    return vault.decode([KEY], [value_of(Answer(output), vault=vault)]) != [None]


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(SCHEMAS.glob("*.json")):
        for example in json.loads(file.read_text())["examples"]:
            yield file.stem, example


@pytest.mark.parametrize(("task", "example"), list(examples()))
def test_an_output_of_the_task_is_believed(task: str, example: dict[str, Any]) -> None:
    """As a worker writes it, and in no other way: with a field twice, one more, one less, or of another type."""
    written = msgspec.json.encode(example)
    assert believed(task, written)
    first, value = next(iter(example.items()))
    twice = b'{"%b":%b,' % (first.encode(), msgspec.json.encode(value)) + written[1:]
    others: list[bytes] = [twice, written + b" ", b"[" + written + b"]", json.dumps(example, indent=1).encode()]
    changed: list[dict[str, Any]] = [
        {**example, "id": "x"},
        {name: inner for name, inner in example.items() if name != first},
        {**example, first: None},
        {**example, first: {"x": 1}},
    ]
    others += [msgspec.json.encode(one) for one in changed if one != example]
    assert not [other for other in others if believed(task, other)]


@pytest.mark.parametrize(
    ("vector", "dtype"),
    [("AAAA", "float32"), ("AAAAAA==", "float16"), ("AADAfw==", "float32"), ("AAAA*AA==", "float32"), ("AAA", "int8")],
    ids=["cut", "too long", "not a number", "not base64", "not padded"],
)
def test_a_string_that_is_no_vector_of_its_dimensions_is_not_believed(vector: str, dtype: str) -> None:
    """It would be published as an answer."""
    assert believed("embedding", b'{"vector":"AACAPw==","dimensions":1,"dtype":"float32"}')
    assert not believed("embedding", msgspec.json.encode({"vector": vector, "dimensions": 1, "dtype": dtype}))


def test_a_task_without_schema_takes_any_object() -> None:
    """And nothing else."""
    assert believed("count", b'{"n":1,"x":[null,{"y":0.5}]}')
    assert not [output for output in (b"[1]", b"1", b"null", b'"x"', b'{"n": 1}', b"{") if believed("count", output)]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_types_say_what_the_schemas_say(task: str) -> None:
    """Every property, bound and required field, so that neither can change alone."""
    schema = json.loads((SCHEMAS / f"{task}.json").read_text())
    kinds = OUTPUTS[task]
    written = [_bare(_resolved(msgspec.json.schema(kind))) for kind in kinds]
    said = _bare({name: schema[name] for name in ("type", "required", "properties", "oneOf") if name in schema})
    if len(kinds) == 1:
        assert written == [said]
        return
    if "properties" not in said:  # each form has its own
        assert written == said["oneOf"]
        return
    assert [one["required"] for one in written] == [branch["required"] for branch in said["oneOf"]]
    assert {name: inner for one in written for name, inner in one["properties"].items()} == said["properties"]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """With what it refers to in its place."""
    definitions = schema.get("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(inner) for inner in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(definitions[node["$ref"].rpartition("/")[2]])
        return {name: inline(inner) for name, inner in node.items() if name != "$defs"}

    resolved = inline(schema)
    assert isinstance(resolved, dict)
    return resolved


_WORDS: tuple[Literal["title", "description", "additionalProperties"], ...] = (
    "title",
    "description",
    "additionalProperties",
)


def _bare(node: Any, *, names: bool = False) -> Any:
    """Without what is there for people; `enum` in the order of the alphabet, and its type left out."""
    if isinstance(node, list):
        return [_bare(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    return {
        name: sorted(inner) if name == "enum" and not names else _bare(inner, names=name == "properties")
        for name, inner in node.items()
        if names or name not in _WORDS
    }
