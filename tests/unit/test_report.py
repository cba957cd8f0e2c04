"""Reports: what a settle did, in numbers."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest

from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, MicroBatch, Outcome, Segment, Skipped, TextEvent
from streamer.core.report import BOUNDS, VERSION, Report, ReportBuilder, read
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord

CARD = ModelCard("sentiment", "abc123", "text-classification", "float32", "torch")
NOW_MS = 1_700_000_001_000


def run_of(
    outcomes: list[Outcome], *, partition: int = 0, offset: int = 0, timestamp_ms: int | None = NOW_MS, text: str = "ab"
) -> Run:
    records = [
        FakeRecord(b"", partition=partition, offset=offset + index, timestamp_ms=timestamp_ms)
        for index in range(len(outcomes))
    ]
    events = [TextEvent(text) if isinstance(outcome, Answer) else None for outcome in outcomes]
    segment = Segment("in", partition, 1, list(records), list(events), list(outcomes))
    return Run(MicroBatch(1, [segment], 1, 1, 0), segment, 0, len(outcomes))


def report_of(*runs: Run) -> Report:
    builder = ReportBuilder(pipeline="mine", task="text-classification", card=CARD)
    for run in runs:
        builder.add(run, NOW_MS)
    return builder.build(NOW_MS)


def labelled(label: str, score: float) -> Answer:
    return Answer(json.dumps({"label": label, "score": score}, separators=(",", ":")).encode())


def test_counts_by_outcome() -> None:
    """Results, dead letters by code and skips by reason are counted, with cache hits, truncations and tokens."""
    report = report_of(
        run_of([Answer(b"{}", tokens=3), Answer(b"{}", cached=True, tokens=4), Answer(b"{}", truncated=True)]),
        run_of([DataFailure(Code.INFER_NAN, ""), DataFailure(Code.DECODE_JSON, ""), DataFailure(Code.INFER_NAN, "")]),
        run_of([Skipped("tombstone"), Skipped("replay"), Skipped("replay")]),
    )
    assert report.results == 3
    assert report.dead_letters == {"infer.nan": 2, "decode.json": 1}
    assert report.skipped == {"tombstone": 1, "replay": 2}
    assert (report.cached, report.truncated, report.tokens) == (1, 1, 7)


def test_ranges_join_the_runs_of_a_partition() -> None:
    """A partition has one range from its first to its last offset, both included."""
    report = report_of(
        run_of([Answer(b"{}")] * 3, partition=1, offset=10),
        run_of([Answer(b"{}")] * 2, partition=0, offset=5),
        run_of([Answer(b"{}")] * 4, partition=1, offset=13),
    )
    assert report.ranges == [("in", 1, 10, 16), ("in", 0, 5, 6)]


def test_only_the_run_counts() -> None:
    """A run of a segment's middle counts its own records; an empty one nothing."""
    whole = run_of([Answer(b"{}")] * 5)
    report = report_of(Run(whole.batch, whole.segment, 2, 4), Run(whole.batch, whole.segment, 4, 4))
    assert (report.results, report.ranges) == (2, [("in", 0, 2, 3)])


@pytest.mark.parametrize(
    ("latency_ms", "bound"), [(0, 1), (1, 1), (2, 2), (7, 8), (1_000, 1_000), (1_001, 1_259), (10**9, 10**8)]
)
def test_latency_falls_at_the_first_bound_not_below(latency_ms: int, bound: int) -> None:
    """A latency counts at its upper bound; the sum and the largest stay exact."""
    histogram = report_of(run_of([Answer(b"{}")] * 2, timestamp_ms=NOW_MS - latency_ms)).latency_ms
    assert histogram.counts == [(bound, 2)]
    assert (histogram.sum, histogram.max) == (2 * latency_ms, latency_ms)


@pytest.mark.case(35, 50)
def test_clocks_that_disagree() -> None:
    """A timestamp in the future is a latency of 0; a record without one, or with one that can be no time of writing,
    has none: a negative one, one of 1970, seconds, microseconds."""
    assert report_of(run_of([Answer(b"{}")], timestamp_ms=NOW_MS + 5_000)).latency_ms.sum == 0
    assert report_of(run_of([Answer(b"{}")], timestamp_ms=NOW_MS + 5_000)).latency_ms.counts == [(1, 1)]
    assert report_of(run_of([Answer(b"{}")], timestamp_ms=None)).latency_ms.counts == []
    for wrong in (-2, 0, NOW_MS // 1000, NOW_MS * 1000):
        assert report_of(run_of([Answer(b"{}")], timestamp_ms=wrong)).latency_ms.counts == []
    assert report_of(run_of([Answer(b"{}")], timestamp_ms=10**12)).latency_ms.counts == [(BOUNDS[-1], 1)]


def test_text_sizes_of_decoded_events() -> None:
    """Texts are counted in characters; records without event are not."""
    histogram = report_of(run_of([Answer(b"{}"), DataFailure(Code.DECODE_JSON, "")], text="é" * 11)).text_chars
    assert (histogram.counts, histogram.sum, histogram.max) == ([(13, 1)], 11, 11)


def test_bounds_rise_in_even_steps() -> None:
    """The bounds are whole, rising, and a third apart at most once they are beyond 10."""
    assert BOUNDS[0] == 1 and BOUNDS[-1] == 10**8
    assert all(low < high for low, high in itertools.pairwise(BOUNDS))
    assert all(high / low < 1.34 for low, high in itertools.pairwise(BOUNDS) if low >= 3)


def test_labels_and_confidence() -> None:
    """Labels are counted, scores fall in 20 bins of [0, 1], 1.0 in the last."""
    report = report_of(
        run_of([labelled("A", 1.0), labelled("A", 0.99), labelled("B", 0.5), labelled("B", 0.0), labelled("B", 1e308)])
    )
    assert report.labels == {"A": 2, "B": 3}
    assert report.confidence is not None
    assert len(report.confidence) == 20
    assert (report.confidence[0], report.confidence[10], report.confidence[19]) == (1, 1, 2)
    assert sum(report.confidence) == 4


def test_outputs_without_label_have_no_labels() -> None:
    """Outputs of other tasks, and labels that are no strings, leave the label fields out."""
    for output in (b"{}", b"[0.1]", b'{"label":1}', b'{"label":'):
        report = report_of(run_of([Answer(output)]))
        assert (report.results, report.labels, report.confidence) == (1, None, None)


def test_rare_labels_are_summed_up() -> None:
    """Of many labels the 50 most frequent are named, the others counted together; long ones are cut."""
    answers = [labelled(f"L{number:03}", 0.5) for number in range(60)] + [labelled("x" * 1_000, 0.5)] * 2
    report = report_of(run_of(list(answers)))
    assert report.labels is not None
    assert len(report.labels) == 50
    assert report.labels["x" * 256] == 2
    assert report.other_labels == 11


def test_a_report_is_a_record() -> None:
    """A report's record is JSON, keyed by its pipeline, on the partition that the producer chooses."""
    topic, partition, key, value, headers = report_of(run_of([Answer(b"{}")])).output("streamer.reports")
    assert (topic, partition, key) == ("streamer.reports", -1, b"mine")
    assert headers == [("content-type", b"application/json")]
    assert value is not None
    body = json.loads(value)
    assert body["version"] == "streamer.report.v2"
    assert body["ranges"] == [["in", 0, 0, 0]]
    assert "labels" not in body


@pytest.mark.parametrize(
    "value",
    [None, b"", b"no", b"{}", b'"\xff"', b"[" * 100_000, b'{"version":"streamer.report.v1","pipeline":"p"}'],
    ids=["none", "empty", "text", "object", "bytes", "deep", "part"],
)
def test_what_is_no_report_is_none(value: bytes | None) -> None:
    """Other programs may write to the topic, too; nothing of theirs ends who reads it."""
    assert read(value) is None


def test_only_versions_that_are_known_are_read() -> None:
    """What a later version means by its fields nobody can say."""
    told = report_of(run_of([Answer(b"{}")]))
    for version, known in ((VERSION, True), ("streamer.report.v1", True), ("streamer.report.v3", False)):
        written = msgspec.structs.replace(told, version=version)
        assert (read(msgspec.json.encode(written)) == written) is known
