"""Any record at all: drawn at random here, and by coverage in `tests/fuzz/fuzz_codec.py`."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.core.record import Headers, TextEvent
from tests.fuzz.fate import SHAPES, check
from tests.fuzz.seeds import FORMS, NAMES, VALUES
from tests.records import FakeRecord

FUZZER = Path(__file__).parents[1] / "fuzz" / "fuzz_codec.py"

names = st.sampled_from(NAMES) | st.text(st.characters(codec="utf-8"), max_size=9)
headers = st.builds(
    lambda form, more: [*form, *more],
    st.sampled_from(FORMS),
    st.lists(st.tuples(names, st.none() | st.binary(max_size=40)), max_size=4),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def objects(*fields: str) -> st.SearchStrategy[bytes]:
    """JSON objects with some of these fields, of any type."""
    bodies = st.fixed_dictionaries({}, optional=dict.fromkeys([*fields, "other"], json_values))
    return bodies.map(lambda body: json.dumps(body).encode())


events = objects("text", "id", "text_pair", "params", "metadata")
envelopes = objects("specversion", "id", "datacontenttype", "data", "data_base64").map(
    lambda body: body.replace(b"{", b'{"specversion": "1.0", ', 1) if body != b"{}" else body
)
rows = objects("body", "body.text", "id", "text_pair", "k")
changes = objects("schema", "payload", "op", "before", "after")


@pytest.mark.case(21, 22, 26)
@pytest.mark.promise(5)
@settings(max_examples=300)
@given(
    st.none() | st.binary() | st.sampled_from(VALUES) | events | envelopes | rows | changes,
    st.none() | st.binary(),
    headers,
    st.integers(0, len(SHAPES) - 1),
)
@example(b'{"specversion": "1.0", "datacontenttype": "text/plain", "data": 1e999}', None, FORMS[3], 0)
def test_no_record_stops_the_process(value: bytes | None, key: bytes | None, headers: Headers, shape: int) -> None:
    """Any bytes under any headers end as an event, a failure or a skip, in whatever shape they are read; the
    neighbours' results are untouched."""
    check(FakeRecord(value, key, headers), shape)


texts = st.text(st.characters(codec="utf-8"), min_size=1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
bodies: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"text": texts},
    optional={
        "id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=256) | st.integers(-(2**63), 2**64 - 1),
        "text_pair": st.text(st.characters(codec="utf-8")),
        "params": st.dictionaries(st.text(st.characters(codec="utf-8")), plain, max_size=3),
        "metadata": st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), plain, max_size=3),
    },
)


@given(bodies, st.booleans())
def test_every_event_comes_through_in_each_format(body: dict[str, Any], ascii_only: bool) -> None:
    """What a producer wrote is what is read: as JSON, in a binary and in both kinds of structured CloudEvents."""
    value = json.dumps(body, ensure_ascii=ascii_only).encode()
    assert _body(check(FakeRecord(value))) == body
    assert _body(check(FakeRecord(value, None, [("ce_specversion", b"1.0")]))) == body
    for data in ({"data": body}, {"data_base64": base64.b64encode(value).decode()}):
        envelope = json.dumps({"specversion": "1.0", "type": "t", "source": "s", **data}, ensure_ascii=ascii_only)
        assert _body(check(FakeRecord(envelope.encode(), None, FORMS[3]))) == body


@given(texts)
def test_every_text_comes_through_as_plain_text(text: str) -> None:
    """By header, in a binary and in a structured CloudEvent."""
    envelope = json.dumps({"specversion": "1.0", "datacontenttype": "text/plain", "data": text})
    for record in (
        FakeRecord(text.encode(), None, FORMS[2]),
        FakeRecord(text.encode(), None, FORMS[5]),
        FakeRecord(envelope.encode(), None, FORMS[3]),
    ):
        assert check(record) == TextEvent(text)


def test_coverage_finds_nothing_at_first() -> None:
    """The fuzzer starts, reads its seeds, and 5,000 inputs later nothing has raised."""
    pytest.importorskip("atheris")
    command = [sys.executable, str(FUZZER), "-runs=5000", "-seed=1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "Done 5000 runs" in ran.stderr


def _body(event: object) -> dict[str, Any]:
    """The fields that are there."""
    assert isinstance(event, TextEvent), event
    metadata = None if event.metadata is None else json.loads(bytes(event.metadata))
    found = {"text": event.text, "id": event.id, "text_pair": event.text_pair, "params": event.params}
    return {name: value for name, value in {**found, "metadata": metadata}.items() if value is not None}
