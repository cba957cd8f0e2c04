"""What must hold for any record, whatever its bytes: it ends in one way, its neighbours too, and nothing raises."""

from __future__ import annotations

import json

import msgspec

from streamer.core.deadletters.envelope import original_headers, unwrap
from streamer.core.events.codec import Codec, event_id
from streamer.core.events.shape import Envelope, Path, Shape
from streamer.core.fingerprint import Fingerprinter
from streamer.core.output import Output, size_bytes
from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, MicroBatch, Segment, Skipped, TextEvent
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.errors import DataFailure
from tests.records import FakeRecord

PIPELINE = "mine"
CARD = ModelCard("sentiment", "abc123", "text-classification", "float32", "torch")
ANSWER = Answer(b'{"label":"A","score":0.5}')
LIMITS = OutputLimits(1 << 20, 1 << 20)
NOW_MS = 1_700_000_000_500

KEPT: tuple[tuple[Envelope, str], ...] = (("none", "*"), ("connect", "body"), ("debezium", "body.k"))
SHAPES = (
    None,
    *(
        Shape(Path.of("body.text"), Path.of("text_pair"), Path.of("id"), (Path.of("k"), Path.of(kept)), envelope)
        for envelope, kept in KEPT
    ),
)
"""How events are read: in our own format, and in shapes of others."""

_codecs = [Codec(PIPELINE, shape=shape) for shape in SHAPES]
_neighbours = [
    b'{"text": "a neighbour"}',
    b'{"body": {"text": "a neighbour"}}',
    b'{"schema": null, "payload": {"body": {"text": "a neighbour"}}}',
    b'{"op": "c", "after": {"body": {"text": "a neighbour"}}}',
]
_encoder = Encoder(
    pipeline=PIPELINE,
    task="text-classification",
    card=CARD,
    output_topic="out",
    dead_letter_topic="dlq",
    limits=LIMITS,
)
_fingerprinter = Fingerprinter(CARD, {})


def check(record: FakeRecord, shape: int = 0) -> TextEvent | DataFailure | Skipped:
    """Decode the record between two good ones and encode what they became; returns what the record is. `shape` is the
    place in SHAPES of how it is read."""
    neighbour = FakeRecord(_neighbours[shape])
    segment = Segment("in", 0, 1, [neighbour, record, neighbour])
    _codecs[shape].decode(segment)
    before, event, after = segment.events
    outcome = segment.outcomes[1]
    assert before is not None
    assert after is not None
    assert before.text == after.text == "a neighbour"
    assert (event is None) != (outcome is None)
    assert segment.open == (2 if event is None else 3)
    segment.outcomes = [ANSWER, outcome or ANSWER, ANSWER]
    outputs = _encoder.encode(Run(MicroBatch(1, [segment], 1, 1, 0), segment, 0, 3), NOW_MS)
    if event is not None:
        assert len(outputs) == 3
        _check_event(record, event, outputs[1])
        return event
    if isinstance(outcome, DataFailure):
        assert len(outputs) == 3
        _check_dead_letter(record, outcome, outputs[1])
        return outcome
    assert isinstance(outcome, Skipped)
    assert len(outputs) == 2
    return outcome


def _check_event(record: FakeRecord, event: TextEvent, output: Output) -> None:
    """All of it can go to a worker and into a result."""
    assert event.text.encode()
    msgspec.json.encode((event.text_pair, event.params))
    assert [len(key) for key in _fingerprinter.keys([event])] == [32]
    assert output[0] == "out"
    result = json.loads(output[3] or b"", parse_int=float)  # metadata may hold any number of digits
    assert (result["id"], output[2]) == (event_id(record, event), record.key())


def _check_dead_letter(record: FakeRecord, failure: DataFailure, output: Output) -> None:
    """It says why, fits its topic, and holds the record."""
    topic, _, key, value, headers = output
    found = unwrap(headers)
    assert found is not None
    assert (topic, found.code, found.offset) == ("dlq", failure.code.value, record.offset())
    assert size_bytes(key, value, headers) <= LIMITS.dead_letter_bytes
    assert (key, value) == (record.key(), record.value())
    assert original_headers(headers) == original_headers(record.headers() or [])
