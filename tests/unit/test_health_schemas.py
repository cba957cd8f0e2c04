"""schemas/health.json and feedback.json say what the health app writes and reads."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.health.alerts.alerts import judge
from streamer.core.health.alerts.rules import DEFAULTS, Measured
from streamer.core.health.feedback.feedback import Feedback, Place, Refused, Said, read
from streamer.core.health.feedback.grades import told
from streamer.core.health.feedback.join import Joiner, Result, Revision, Source
from streamer.core.health.feedback.memory import packed, split
from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import HOUR_MS
from streamer.core.health.words import Word, decode, encode
from tests.integration.health_reports import report
from tests.unit.drifting_kit import drifting
from tests.unit.test_schemas import schema, validator


def words() -> list[Word]:
    """One of each kind, as they are written."""
    keeper = Keeper("streamer.reports")
    keeper.take(0, 5, msgspec.json.encode(report("mood", 0, 10, 60_000, dead=2)))
    snapshot = keeper.snapshot(120_000, {0: 7}, b"seen")
    state = judge(DEFAULTS["dead-letters"], "mood", Measured(0.2, 500), 120_000, None)
    nothing = judge(DEFAULTS["dead-letters"], "mood", Measured(None, 5), 120_000, None)
    joiner, place = Joiner(60), Place("mood", "events", 0, 1)
    said = read(b'{"ce_id": "mood/events/0/1", "label": "joy"}', 65_000)
    assert isinstance(said, Said)
    joiner.take(place, said, 65_000)
    source = Source("events", 0, 1, 60_000)
    joiner.found(place, Result("mood", Revision("abc123"), {"label": "joy", "score": 0.9}, source), 65_000)
    grades = [told(grade, keeper.fold) for grade in joiner.realised.grades("mood", HOUR_MS)]
    parts, head = split("streamer.feedback", "a", 70_000, packed({0: 2}, joiner.joined({})))
    drifts = drifting()
    said_of: list[Word] = [*drifts.baselines.values(), *drifts.words(["p"]).values(), *grades, *parts, head]
    return [*keeper.words(keeper.due(10**12)), state, nothing, *said_of, snapshot]


def test_what_is_written_fits() -> None:
    for word in words():
        value = encode(word)
        validator(schema("health")).validate(json.loads(value))
        assert json.loads(encode(decode(value))) == json.loads(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "type_"), [(type_.__struct_config__.tag, type_) for type_ in get_args(Word)])
def test_the_fields_agree(kind: str, type_: type[msgspec.Struct]) -> None:
    body = schema("health")["$defs"][kind]
    assert set(body["properties"]) == {"kind", *(field.name for field in msgspec.structs.fields(type_))}


def test_other_words_are_none() -> None:
    newer = json.loads(encode(words()[-1])) | {"version": "streamer.health.v2"}
    for value in (b"", None, b"\xff", b"{}", b'{"kind": "mood"}', json.dumps(newer).encode()):
        assert decode(value) is None


_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        "",
        "a",
        "2026-11-24T08:00:00Z",
        "today",
        0,
        -1,
        0.5,
        True,
        [],
        ["a"],
        [""],
        ["a", 0, 1],
        ["a", 0, -1],
        ["a", 0],
        {},
        [{"start": 0, "end": 3, "label": "PER"}],
        [{"start": 0, "end": 0, "label": "PER"}],
        "a" * 300,
    ]
)


@given(st.dictionaries(st.sampled_from([*Feedback.__struct_fields__, "more"]), _VALUES, max_size=4))
def test_what_the_schema_takes_is_read_and_nothing_else(body: dict[str, Any]) -> None:
    """Whatever fields there are, and whatever is in them."""
    read_well = not isinstance(read(json.dumps(body).encode(), 0), Refused)
    assert read_well == validator(schema("feedback")).is_valid(body)


def test_the_feedback_fields_agree() -> None:
    assert set(schema("feedback")["properties"]) == set(Feedback.__struct_fields__)
    for example in schema("feedback")["examples"]:
        assert not isinstance(read(json.dumps(example).encode(), 0), Refused)
