"""What `streamer save` makes of a record."""

from __future__ import annotations

import json

from streamer.core.events.codec import Codec
from streamer.core.events.shape import Path, Shape
from streamer.core.output import Output
from streamer.core.pipeline.protocol import Run
from streamer.core.record import Answer, MicroBatch, Segment
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.ops.save import Lines, row_of
from tests.fuzz.fate import CARD, NOW_MS
from tests.records import FakeRecord

SHAPE = Shape(Path.of("t"), id=Path.of("key.id"), keep=(Path.of("kept"),))


def outputs(*values: bytes) -> list[FakeRecord]:
    """What the pipeline "mine" writes of records with these values."""
    segment = Segment("in", 0, 1, [FakeRecord(value, offset=offset) for offset, value in enumerate(values)])
    Codec("mine", shape=SHAPE).decode(segment)
    segment.outcomes = [outcome or Answer(b'{"label":"A","score":0.5}') for outcome in segment.outcomes]
    limits = OutputLimits(1 << 20, 1 << 20)
    encoder = Encoder(pipeline="mine", task="t", card=CARD, output_topic="out", dead_letter_topic="dlq", limits=limits)
    made: list[Output] = encoder.encode(Run(MicroBatch(1, [segment], 1, 1, 0), segment, 0, len(values)), NOW_MS)
    return [FakeRecord(value, key, headers, topic, partition) for topic, partition, key, value, headers in made]


def test_results_dead_letters_and_others() -> None:
    """Each is one line; ids are those that the pipeline reads; texts of dead letters only where they are asked for."""
    good, bad = outputs(b'{"t": "a", "key": {"id": 5}, "kept": {"x":\n 1.10}}', b'{"t": 3, "key": {"id": 6}}')
    lines = Lines({"mine": SHAPE}, show_text=False)
    line = lines.line(good, good.headers())
    assert b"\n" not in line
    assert b'"metadata":{"kept":{"x":1.10}}' in line
    row = row_of(line)
    assert (row["id"], row["topic"], row["partition"], row["offset"]) == ("5", "in", 0, 0)
    assert (row["output.label"], row["output.score"], row["metadata.kept"]) == ("A", 0.5, {"x": 1.1})
    line = lines.line(bad, bad.headers())
    found = json.loads(line)
    assert (found["id"], found["source"]["offset"], found["record"]["topic"]) == ("6", 1, "dlq")
    assert "value" not in found
    assert (row_of(line)["error.code"], row_of(line)["offset"]) == ("validate.text", 1)
    other = json.loads(lines.line(FakeRecord(b"\xff", b"k"), []))
    assert (other["value"], other["key"], other["offset"]) == ({"base64": "/w=="}, "k", 0)
    assert (lines.results, lines.dead_letters, lines.others, lines.unreadable) == (1, 1, 1, [])
    shown = json.loads(Lines({}, show_text=True).line(bad, bad.headers()))
    assert json.loads(shown["value"]) == {"t": 3, "key": {"id": 6}}


def test_what_says_that_it_is_a_result_and_is_none_is_named() -> None:
    """And saved as it is; so is a record whose headers can't be read."""
    (good,) = outputs(b'{"t": "a"}')
    lines = Lines({}, show_text=False)
    for value in (b"nonsense", b"{}", b"", None, b'{"id": "\xff"}'):
        assert "headers" in json.loads(lines.line(FakeRecord(value, headers=good.headers()), good.headers()))
    assert len(lines.unreadable) == lines.others == 5
    assert json.loads(lines.line(good, None))["headers"] == []
