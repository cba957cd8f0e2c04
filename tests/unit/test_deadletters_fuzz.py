"""Whatever dead letters, lines and patches hold: reading them does not raise, and nothing that is ours gets lost."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.core.deadletters.envelope import original_headers, unwrap, wrap
from streamer.core.deadletters.families import read, without_reason
from streamer.core.deadletters.lines import read_line
from streamer.core.deadletters.patch import merged, patched
from streamer.core.record import Headers
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord
from tests.unit.deadletters_kit import ARROYO, CARD, CONNECT, REDPANDA, SHARE, SPRING, STREAMS, ours

KNOWN = sorted(
    {name for family in (ARROYO, CONNECT, REDPANDA, SHARE, SPRING, STREAMS) for name, _ in family}
    | {name for name, _ in ours(value=b"x" * 5_000, limit_bytes=2_000).headers() or ()}
    | {"streamer.replay.attempts", "streamer.replay.id", "streamer.error.key", "streamer.error.headers"}
)
numbers = st.sampled_from([b"0", b"-1", b"3", b"9" * 19, b"9" * 20, b"\xb2", b"+1", b"1_0", b" 1", b""])
headers = st.lists(
    st.tuples(
        st.sampled_from(KNOWN) | st.text(st.characters(codec="utf-8"), max_size=9),
        st.none() | numbers | st.binary(max_size=40),
    ),
    max_size=20,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


@settings(max_examples=300)
@given(headers)
def test_reading_any_headers_never_raises(found: Headers) -> None:
    """Of every family at once, with any bytes for text and numbers; and a record that carries them can be wrapped."""
    info, reason = unwrap(found), read(dict(found))
    if info is not None:
        assert (reason.code, reason.topic, reason.offset) == (info.code, info.topic, info.offset)
    without_reason(found, reason.family)
    record = FakeRecord(b"v", headers=found)
    letter = wrap(
        record,
        DataFailure(Code.INFER_NAN, "NaN."),
        pipeline="mine",
        card=CARD,
        dead_letter_topic="dlq",
        limit_bytes=1 << 20,
        time_ms=0,
    )
    again = unwrap(letter[4])
    assert again is not None
    assert (again.code, again.attempts >= 1) == ("infer.nan", True)
    assert original_headers(letter[4]) == original_headers(found)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()), objects)
@example(b'{"n": 123456789012345678901234567890}', {"m": 2**70})
@example(b'{"a": ' + b"[" * 600 + b"]" * 600 + b"}", {"a": {"b": None}})
def test_any_value_can_be_offered_to_any_patch(value: bytes, patch: dict[str, Any]) -> None:
    """A JSON object is patched, anything else is refused; a patch laid over twice changes no more."""
    once = patched(value, patch)
    if once is None:
        return
    assert patched(once, patch) == once
    result = msgspec.json.decode(once)
    assert all((name in result) == (new is not None) for name, new in patch.items())


@given(json_values, json_values)
def test_a_merge_is_what_rfc_7396_says(target: Any, patch: Any) -> None:
    """The RFC's own pseudo-code, by its effects on every field; neither argument is changed."""
    before = json.dumps([target, patch])
    result = merged(target, patch)
    assert json.dumps([target, patch]) == before
    if not isinstance(patch, dict):
        assert result == patch
        return
    base = target if isinstance(target, dict) else {}
    kept = {name for name in base if name not in patch} | {name for name, new in patch.items() if new is not None}
    assert set(result) == kept
    assert all(result[name] == base[name] for name in base if name not in patch)


@given(st.binary() | objects.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_read_or_raises_value_error(line: bytes) -> None:
    """A line of a file of dead letters raises nothing but the ValueError that names its fault."""
    with contextlib.suppress(ValueError):
        read_line(line)
