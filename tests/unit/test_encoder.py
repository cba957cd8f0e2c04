"""The encoder: results as subscribers read them, in order, and failures as dead letters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.core.deadletters.envelope import unwrap
from streamer.core.events.codec import Codec
from streamer.core.output import Output, size_bytes
from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, Headers, MicroBatch, Outcome, Segment, Skipped
from streamer.core.report import ReportBuilder
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.core.traceparent import mark_spans, record_span_id, render
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord

CARD = ModelCard("sentiment", "abc123", "text-classification", "float32", "torch")
ANSWER = Answer(b'{"label":"POSITIVE","score":0.5}', tokens=7)
NOW_MS = 1_700_000_000_500


def encoder(pipeline: str = "mine", result_bytes: int = 1_000_000, dead_letter_bytes: int = 1_000_000) -> Encoder:
    return Encoder(
        pipeline=pipeline,
        task="text-classification",
        card=CARD,
        output_topic="out",
        dead_letter_topic="dlq",
        limits=OutputLimits(result_bytes, dead_letter_bytes),
    )


def run_of(
    records: list[FakeRecord], outcomes: list[Outcome] | None = None, topic: str = "in", partition: int = 0
) -> Run:
    """Decoded records, each with its outcome: what decoding left open gets the given outcomes, by index."""
    segment = Segment(topic, partition, 1, list(records))
    Codec("mine").decode(segment)
    for index, outcome in enumerate(segment.outcomes):
        if outcome is None:
            segment.outcomes[index] = outcomes[index] if outcomes else ANSWER
    return Run(MicroBatch(1, [segment], 0xABC, 0xDEF, 0), segment, 0, len(records))


def result_of(output: Output) -> dict[str, Any]:
    assert output[3] is not None
    result = json.loads(output[3])
    assert isinstance(result, dict)
    return result


def encode_one(record: FakeRecord, answer: Answer = ANSWER) -> Output:
    (output,) = encoder().encode(run_of([record], [answer], record.topic(), record.partition()), NOW_MS)
    return output


@pytest.mark.case(34)
def test_a_result_as_subscribers_read_it() -> None:
    """Every field and header of a result, and the order of the fields."""
    record = FakeRecord(
        b'{"id": "r1", "text": "a", "metadata": {"lot": 1.50}}',
        key=b"k",
        topic="reviews",
        partition=3,
        offset=17,
        timestamp_ms=1_700_000_000_000,
    )
    topic, partition, key, value, headers = encode_one(record, Answer(ANSWER.output, truncated=True, cached=True))
    assert (topic, partition, key) == ("out", 3, b"k")
    assert value == (
        b'{"id":"r1","pipeline":"mine","task":"text-classification","model":{"name":"sentiment","revision":"abc123"},'
        b'"output":{"label":"POSITIVE","score":0.5},"cached":true,"truncated":true,'
        b'"source":{"topic":"reviews","partition":3,"offset":17,"timestamp_ms":1700000000000},"metadata":{"lot": 1.50}}'
    )
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"mine/reviews/3/17"),
        ("ce_source", b"/streamer/mine"),
        ("ce_type", b"streamer.result.v1"),
        ("content-type", b"application/json"),
        ("traceparent", b"00-00000000000000000000000000000abc-0000000000000def-01"),
    ]


@pytest.mark.case(23, 50)
@pytest.mark.parametrize("timestamp_ms", [None, -1, -62_135_596_800_000])
def test_optional_parts_are_left_out(timestamp_ms: int | None) -> None:
    """Without metadata there is no such field; without key the key is null; without timestamp, or with a negative one,
    it is -1."""
    output = encode_one(FakeRecord(b'{"text": "a"}', offset=5, timestamp_ms=timestamp_ms))
    result = result_of(output)
    assert output[2] is None
    assert "metadata" not in result
    assert (result["cached"], result["truncated"]) == (False, False)
    assert result["source"]["timestamp_ms"] == -1


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"text": "a", "id": 'a"b\\c\n\u2028é%d'}, None, 'a"b\\c\n\u2028é%d'),
        ({"text": "a", "id": 12}, None, "12"),
        ({"text": "a"}, None, "in/0/9"),
        ({"text": "a", "id": "body"}, [("ce_id", b"cloud")], "cloud"),
        ({"text": "a", "id": 12}, [("x", b"")], "12"),
        ({"text": "a", "id": "body"}, [("ce_id", b"cloud"), ("streamer.replay.id", b"first")], "first"),
    ],
)
def test_ids(body: dict[str, Any], headers: Headers | None, expected: str) -> None:
    """A result's id is a string, the event's by the order of ids, with any character."""
    record = FakeRecord(json.dumps(body).encode(), headers=headers, offset=9)
    assert result_of(encode_one(record))["id"] == expected


def test_names_with_percent_and_quotes() -> None:
    """Names that mean something to formatting or JSON come out as they are."""
    run = run_of([FakeRecord(b'{"text": "a"}', topic='to"%b', offset=3)], topic='to"%b')
    (output,) = encoder(pipeline='100%d"').encode(run, NOW_MS)
    result = result_of(output)
    assert (result["pipeline"], result["source"]["topic"]) == ('100%d"', 'to"%b')
    assert dict(output[4])["ce_id"] == b'100%d"/to"%b/0/3'


@pytest.mark.promise(3)
def test_outcomes_in_input_order() -> None:
    """Results and dead letters come in the order of the input; skipped records leave nothing."""
    records = [
        FakeRecord(b'{"text": "a"}', offset=0),
        FakeRecord(b"nonsense", offset=1),
        FakeRecord(None, offset=2),
        FakeRecord(b'{"text": "b"}', offset=3),
        FakeRecord(b'{"text": "c"}', offset=4),
    ]
    run = run_of(records, [ANSWER, ANSWER, ANSWER, DataFailure(Code.INFER_NAN, "NaN."), ANSWER])
    outputs = encoder().encode(run, NOW_MS)
    assert [output[0] for output in outputs] == ["out", "dlq", "dlq", "out"]
    assert result_of(outputs[3])["source"]["offset"] == 4
    codes = [info.code for output in outputs[1:3] if (info := unwrap(output[4]))]
    assert codes == ["decode.json", "infer.nan"]


def test_only_the_run_is_encoded() -> None:
    """A run of a segment's middle gives the outputs of its own records."""
    whole = run_of([FakeRecord(b'{"text": "a"}', offset=offset) for offset in range(6)])
    outputs = encoder().encode(Run(whole.batch, whole.segment, 2, 4), NOW_MS)
    assert [result_of(output)["source"]["offset"] for output in outputs] == [2, 3]


def test_encoding_again_gives_the_same() -> None:
    """A run that is produced again after an abort gives the same bytes."""
    run = run_of([FakeRecord(b'{"text": "a"}'), FakeRecord(b"")])
    assert encoder().encode(run, NOW_MS) == encoder().encode(run, NOW_MS)


@pytest.mark.case(17)
def test_a_result_that_does_not_fit_is_a_dead_letter() -> None:
    """The record whose result is over the topic's limit fails alone, in the segment too; at the limit it fits."""
    big = Answer(b'{"label":"' + b"x" * 2_000 + b'"}')
    records = [FakeRecord(b'{"text": "a"}', key=b"k", offset=offset) for offset in range(3)]
    fitting = encoder().encode(run_of(records, [big] * 3), NOW_MS)
    limit = max(size_bytes(*output[2:]) for output in fitting) + 20
    run = run_of(records, [big, Answer(big.output[:-2] + b"y" * 100 + b'"}'), ANSWER])
    outputs = encoder(result_bytes=limit).encode(run, NOW_MS)
    assert [output[0] for output in outputs] == ["out", "dlq", "out"]
    failure = run.segment.outcomes[1]
    assert isinstance(failure, DataFailure) and failure.code is Code.PUBLISH_TOO_LARGE
    assert all(size_bytes(*output[2:]) <= limit for output in outputs if output[0] == "out")


def test_a_large_key_counts() -> None:
    """The key is part of the result's size."""
    (output,) = encoder(result_bytes=5_000).encode(run_of([FakeRecord(b'{"text": "a"}', key=b"k" * 5_000)]), NOW_MS)
    assert output[0] == "dlq"


@pytest.mark.case(23)
def test_a_key_of_ten_megabytes_costs_the_record_its_key() -> None:
    """Neither topic holds it: the dead letter comes without, and says so."""
    (output,) = encoder().encode(run_of([FakeRecord(b'{"text": "a"}', key=b"k" * 10_000_000)]), NOW_MS)
    topic, _, key, _, headers = output
    info = unwrap(headers)
    assert info is not None
    assert (topic, key, info.code, info.key_omitted) == ("dlq", None, "publish.too_large", True)


@pytest.mark.case(18)
def test_dead_letters_keep_to_their_topic_limit() -> None:
    """A dead letter is cut to the dead-letter topic's own limit."""
    (output,) = encoder(dead_letter_bytes=2_500).encode(run_of([FakeRecord(b"x" * 5_000)]), NOW_MS)
    assert output[3] is None
    assert size_bytes(*output[2:]) <= 2_500


def test_a_record_with_a_span_carries_its_own_context() -> None:
    """The result of a record with a span continues its producer's trace; the others carry the micro-batch's."""
    sampled, unsampled = render(1, 2), render(3, 4, sampled=False)
    records = [
        FakeRecord(b'{"text": "a"}', headers=[("traceparent", unsampled)]),
        FakeRecord(b'{"text": "a"}', headers=[("traceparent", sampled)]),
        FakeRecord(b'{"text": "a"}'),
        FakeRecord(b'{"text": "a"}', headers=[("traceparent", sampled)]),
    ]
    run = run_of(records)
    assert mark_spans(run.batch, 1) == (1, 1)
    contexts = [dict(output[4])["traceparent"] for output in encoder().encode(run, NOW_MS)]
    batch = render(0xABC, 0xDEF)
    own = render(1, record_span_id(0xDEF, 0))
    assert contexts == [batch, own, batch, batch]
    run.batch.sampled = False
    batch = render(0xABC, 0xDEF, sampled=False)
    contexts = [dict(output[4])["traceparent"] for output in encoder().encode(run, NOW_MS)]
    assert contexts == [batch, own, batch, batch]


def test_the_report_sees_what_was_published() -> None:
    """A result that became a dead letter counts as one in the report."""
    report = ReportBuilder(pipeline="mine", task="text-classification", card=CARD)
    run = run_of([FakeRecord(b'{"text": "a"}'), FakeRecord(None, offset=1)], [Answer(b"1" * 9_000), Skipped("")])
    encoder(result_bytes=5_000).encode(run, NOW_MS)
    report.add(run, NOW_MS)
    built = report.build(NOW_MS)
    assert (built.results, built.dead_letters, built.skipped) == (0, {"publish.too_large": 1}, {"tombstone": 1})
