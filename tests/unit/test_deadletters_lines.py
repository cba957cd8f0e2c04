"""Dead letters as JSON lines come back byte for byte, and merge patches do what RFC 7396 says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.deadletters.destinations import Refusal
from streamer.core.deadletters.lines import headers_from, line_of, read_line, to_bytes
from streamer.core.deadletters.patch import merged, patched
from streamer.core.record import Headers
from streamer.errors import UsageError
from streamer.ops.dlq.edit import NO_OBJECT, by_patch, read_values, write_lines
from tests.records import FakeRecord
from tests.unit.deadletters_kit import Unreadable, letter, ours

content = st.none() | st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode())
headers_strategy = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9), content), max_size=5
)
records = st.builds(
    FakeRecord,
    value=content,
    key=content,
    headers=headers_strategy,
    topic=st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.none() | st.integers(0, 2**52),
)


@given(records)
def test_a_line_is_the_record(record: FakeRecord) -> None:
    """Bytes that are text and bytes that are not, nulls and empty ones, all are told apart."""
    headers: Headers = record.headers() or []
    text = line_of(record, headers)
    assert b"\n" not in text
    line = read_line(text)
    assert line.place == (record.topic(), record.partition(), record.offset())
    assert (to_bytes(line.key), to_bytes(line.value), headers_from(line)) == (record.key(), record.value(), headers)
    assert line.timestamp_ms == (record.timestamp()[1] if record.timestamp()[0] else None)
    json.loads(text)


GOOD = json.loads(line_of(FakeRecord(b"v", b"k", [("a", b"b")], "t", 1, 2), [("a", b"b")]))


@pytest.mark.parametrize(
    "change",
    [
        {"value": 5},
        {"value": {"base64": "secret!"}},
        {"key": {"base64": "a"}},
        {"headers": [["a"]]},
        {"headers": [["a", {"base64": "?"}]]},
        {"topic": "no such/name"},
        {"offset": -1},
        {"partition": None},
        {"secret": "secret"},
    ],
)
def test_wrong_lines_are_told_without_quoting_them(change: dict[str, Any]) -> None:
    """The message names the field, never what is in it."""
    with pytest.raises(ValueError) as raised:
        read_line(json.dumps({**GOOD, **change}).encode())
    assert "secret!" not in str(raised.value)
    for text in (b"nonsense secret!", b'"secret!"', b"\xff", b"[" * 100_000, b""):
        with pytest.raises(ValueError) as raised:
            read_line(text)
        assert "secret!" not in str(raised.value)


# RFC 7396, appendix A.
RFC = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC)
def test_the_rfcs_examples(target: Any, patch: Any, result: Any) -> None:
    """All of appendix A."""
    assert merged(target, patch) == result


def test_only_objects_are_patched() -> None:
    """Anything else is refused, and a patched value is JSON again."""
    assert json.loads(patched(b'{"text": "a", "params": {"x": 1}}', {"text": "b", "params": None}) or b"") == {
        "text": "b"
    }
    for value in (None, b"", b"nonsense", b"[1]", b"5", b"\xff", b"[" * 100_000):
        assert patched(value, {"a": 1}) is None
        assert by_patch({"a": 1})(letter(ours(value=value))) is NO_OBJECT
    assert not isinstance(by_patch({"a": 1})(letter(ours())), Refusal)


def test_an_editor_changes_values_and_takes_lines_out(tmp_path: Path) -> None:
    """What is left in the file is what goes, with its value as edited."""
    path = tmp_path / "letters.jsonl"
    written = write_lines(
        [letter(ours(0)), letter(ours(1)), letter(ours(2, value=b"\xff")), letter(Unreadable(b"v"))], path
    )
    assert len(written) == 3
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace("hi", "HI"), "", lines[2]]))
    values = read_values(path, written)
    assert values == {("in.dlq", 0, 0): b'{"id": "a", "text": "HI"}', ("in.dlq", 0, 2): b"\xff"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"offset":0', '"offset":7', "line 1: topic, partition and offset"),
        ('"key":"k"', '"key":"other"', "line 1: only the value"),
        ("It raised.", "It rose.", "line 1: only the value"),
        ('"value":', '"value"', "line 1: not a JSON object"),
        ("\n", "\nAGAIN", "line 2: topic, partition and offset"),
    ],
)
def test_an_editor_may_change_nothing_else(tmp_path: Path, old: str, new: str, words: str) -> None:
    """A changed place, key or header, a broken line and a line twice are named; nothing of them is quoted."""
    path = tmp_path / "letters.jsonl"
    written = write_lines([letter(ours(0))], path)
    text = path.read_text()
    path.write_text(text.replace(old, new.replace("AGAIN", text)))
    with pytest.raises(UsageError, match=words) as raised:
        read_values(path, written)
    assert "hi" not in str(raised.value).partition(".jsonl")[2].split()
