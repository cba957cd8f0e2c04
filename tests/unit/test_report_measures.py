"""What reports say beside counts: scripts, margins, vectors, written texts, likelihoods. Sums of what was settled."""

from __future__ import annotations

import base64
import itertools
import json
import math
import random
import struct
from array import array
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.measures import ABSENT, PROJECTION_BINS, PROJECTIONS, are_measures, pack, repetition_bin, share_bin
from streamer.core.pipeline.flights import Flights
from streamer.core.pipeline.protocol import Run
from streamer.core.record import Answer, MicroBatch, Outcome, Segment, TextEvent
from streamer.core.report import BOUNDS, Embedding, Report
from streamer.core.report.outputs import VECTORS_READ
from streamer.core.report.scripts import SCRIPTS, main_script
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord
from tests.unit.test_report import NOW_MS, report_of


def run_of(outcomes: list[Outcome], texts: list[str] | None = None, *, first: int = 0, last: int | None = None) -> Run:
    records = [FakeRecord(b"", offset=index, timestamp_ms=NOW_MS) for index in range(len(outcomes))]
    events = [TextEvent(text) for text in texts or ["ab"] * len(outcomes)]
    segment = Segment("in", 0, 1, list(records), list(events), list(outcomes))
    return Run(MicroBatch(1, [segment], 1, 1, 0), segment, first, len(outcomes) if last is None else last)


def answer(output: object, measures: bytes = b"", **fields: bool) -> Answer:
    return Answer(msgspec.json.encode(output), measures=measures, **fields)


def bins(counts: dict[int, int], number: int = 20) -> list[int]:
    return [counts.get(index, 0) for index in range(number)]


# --- measures of the workers -----------------------------------------------------------------------------------------


def test_margins_and_entropies_are_counted_by_bin() -> None:
    """Of the answers that have them; unknown tokens add up, also beyond a byte."""
    report = report_of(
        run_of([Answer(b"{}", measures=pack(70_000, 3, 19)), Answer(b"{}"), Answer(b"{}", measures=pack(300, 3))])
    )
    assert report.margin == bins({3: 2})
    assert report.entropy == bins({19: 1})
    assert report.unknown_tokens == 70_300
    plain = report_of(run_of([Answer(b"{}")]))
    assert (plain.margin, plain.entropy, plain.unknown_tokens, plain.embedding) == (None, None, 0, None)


measured = st.builds(
    pack,
    st.integers(0, 2**32 - 1),
    *[st.sampled_from([*range(20), ABSENT])] * 3,
)
outcomes = st.one_of(
    st.builds(Answer, st.just(b"{}"), measures=measured, repeated=st.booleans(), cached=st.booleans()),
    st.builds(DataFailure, st.just(Code.INFER_NAN), st.just("")),
)


@given(st.lists(outcomes, min_size=1, max_size=30), st.data())
def test_any_split_into_plans_gives_the_same_sums(found: list[Outcome], data: st.DataObject) -> None:
    """A report hangs on its runs alone: a plan that is made again, of more records or fewer, counts each once."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(found)))) | {0, len(found)})
    whole = run_of(found)
    assert report_of(whole) == report_of(whole)
    parts = [report_of(Run(whole.batch, whole.segment, first, last)) for first, last in itertools.pairwise(cuts)]
    every = report_of(whole)
    for name in ("results", "repeats", "unknown_tokens", "empty"):
        assert sum(getattr(part, name) for part in parts) == getattr(every, name)
    for name in ("margin", "entropy"):
        counted = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        assert (list(map(sum, zip(*counted, strict=True))) or None) == getattr(every, name)


@given(measured | st.binary(max_size=45))
def test_bytes_of_somebody_else_are_no_measures(found: bytes) -> None:
    """What passes can be counted, and counts in the bins that there are."""
    if are_measures(found):
        report = report_of(run_of([Answer(b'{"vector":[1.0]}', measures=found)]))
        assert all(sum(one) <= 1 for one in (report.margin or [], report.entropy or []))
        assert report.embedding is not None and all(sum(one) == 1 for one in report.embedding.projections)


@pytest.mark.parametrize(("share", "bin_"), [(0.0, 0), (0.049, 0), (0.05, 1), (1.0, 19), (1.0000001, 19), (-1e-9, 0)])
def test_shares_fall_in_equal_bins(share: float, bin_: int) -> None:
    """1.0 falls in the last, and rounding leads nowhere else."""
    assert share_bin(share) == bin_


def test_repetition_is_the_share_of_trigrams_seen_before() -> None:
    """None of two tokens, none repeated of different ones, nearly all of one token over and over."""
    assert repetition_bin([1, 2]) == ABSENT
    assert repetition_bin(list(range(50))) == 0
    assert repetition_bin([7] * 102) == share_bin(0.99)
    assert repetition_bin([1, 2, 3, 1, 2, 3]) == share_bin(1 / 4)


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("What a fine day", "latin"),
        ("Déjà vu à Łódź", "latin"),
        ("Какой хороший день, OK", "cyrillic"),
        ("τι ωραία μέρα", "greek"),
        ("يا له من يوم جميل", "arabic"),
        ("איזה יום יפה", "hebrew"),
        ("कितना अच्छा दिन है", "devanagari"),
        ("今天天气很好", "han"),
        ("今日はいい天気ですね", "kana"),
        ("좋은 날이네요", "hangul"),
        ("วันนี้อากาศดี", "thai"),
        ("ჩინებული დღე", "other"),
        ("12:30 https://… 🙂", "latin"),
        ("12:30 … 🙂", "none"),
        ("12:30 :-)", "none"),
        ("  ", "none"),
        ("\ud800", "none"),
    ],
)
def test_a_text_has_the_script_of_most_of_its_letters(text: str, script: str) -> None:
    """Signs, digits and pictures have none."""
    assert main_script(text) == script
    assert script in SCRIPTS


def test_scripts_are_of_a_sample_and_empty_texts_of_all() -> None:
    """The sample is spread evenly over the report's texts."""
    texts = ["fine", "хорошо"] * 100 + [" \n\t"] * 100
    report = report_of(run_of([Answer(b"{}")] * 300, texts))
    assert report.empty == 100
    assert report.scripts is not None and 48 <= sum(report.scripts.values()) <= 64
    assert report.scripts["none"] == pytest.approx(20, abs=2)
    few = report_of(run_of([Answer(b"{}")] * 3, ["fine", "fine", "хорошо"]))
    assert few.scripts == {"latin": 2, "cyrillic": 1}


def test_repeats_are_answers_that_another_record_was_computed_for() -> None:
    """From memory, from the shared cache, or from the computation of an equal text that was under way."""
    segment = Segment("in", 0, 1, [FakeRecord(b"", offset=index) for index in range(4)])
    segment.events = [TextEvent("ab"), TextEvent("ab"), TextEvent("cd"), TextEvent("ab")]
    segment.outcomes, segment.open = [None] * 4, 4
    flights = Flights()
    fresh = flights.join(["ab", "ab", "cd", "ab"], segment.events, segment, [0, 1, 2, 3])  # type: ignore[arg-type]
    assert flights.land(fresh, [Answer(b'{"a":1}'), Answer(b'{"a":2}')]) == 4
    assert [one.repeated for one in segment.outcomes if isinstance(one, Answer)] == [False, True, False, True]
    assert [one.output for one in segment.outcomes if isinstance(one, Answer)][3] == b'{"a":1}'
    report = report_of(
        Run(MicroBatch(1, [segment], 1, 1, 0), segment, 0, 4),
        run_of([Answer(b"{}", cached=True), Answer(b"{}", cached=True, repeated=True), Answer(b"{}")]),
    )
    assert (report.results, report.cached, report.repeats) == (7, 2, 4)


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_vectors_are_summed() -> None:
    """Their sum, their lengths, and the bins of the projections that the workers sent."""
    projected = bytes(index % PROJECTION_BINS for index in range(PROJECTIONS))
    report = report_of(
        run_of(
            [
                answer({"vector": [3.0, 4.0], "dimensions": 2}, bytes([0, 0, 0, 0, 255, 255, 255]) + projected),
                answer({"vector": [127, 0], "dimensions": 2, "scale": 0.5}),
                answer({"vector": [1.0], "dimensions": 1}),  # of somebody's own model: two lengths have no sum
                answer({"vector": ["x"]}),
            ]
        )
    )
    found = report.embedding
    assert isinstance(found, Embedding)
    assert found.count == 2
    assert array("f", found.sum).tolist() == [66.5, 4.0]
    assert (found.norm.sum, found.norm.max) == (5_000 + 63_500, 63_500)
    assert len(found.projections) == PROJECTIONS
    assert all(one.index(1) == index % PROJECTION_BINS for index, one in enumerate(found.projections))
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


@pytest.mark.parametrize(("dtype", "letter"), [("float32", "f"), ("float16", "e"), ("int8", "b")])
def test_vectors_in_base64_are_summed_as_lists_are(dtype: str, letter: str) -> None:
    """A drift of embeddings is found whatever they are written as; what is no vector is left out."""
    vectors = [[3, -4], [1, 2]]
    strings = [base64.b64encode(struct.pack(f"<2{letter}", *vector)).decode() for vector in vectors]
    found = report_of(
        run_of(
            [
                *[answer({"vector": one, "dimensions": 2, "dtype": dtype, "scale": 0.5}) for one in strings],
                answer({"vector": "AAA=", "dimensions": 1, "dtype": "float32"}),
                answer({"vector": "AADAfwAAwH8=", "dimensions": 2, "dtype": "float32"}),  # not numbers
                answer({"vector": "AAAAAA==", "dimensions": 1, "dtype": "?"}),
            ]
        )
    )
    assert found.embedding == report_of(run_of([answer({"vector": one, "scale": 0.5}) for one in vectors])).embedding


def test_few_vectors_of_a_large_report_are_read() -> None:
    """Reading them all would cost more than the rest of a report; they are spread evenly."""
    vectors = [answer({"vector": [float(index), 1.0], "dimensions": 2}) for index in range(1_000)]
    found = report_of(run_of(list(vectors))).embedding
    assert found is not None and VECTORS_READ - 2 <= found.count <= VECTORS_READ
    first, second = array("f", found.sum)
    assert second == found.count
    assert first / found.count == pytest.approx(500, abs=40)


def test_vectors_beyond_any_number_are_left_out() -> None:
    """One of them would spoil each sum that it is part of."""
    found = report_of(run_of([answer({"vector": [1e39]}), answer({"vector": [2.0]}), answer({"vector": []})])).embedding
    assert found is not None and (found.count, array("f", found.sum).tolist()) == (1, [2.0])
    assert report_of(run_of([answer({"vector": [1e308, 1e308]})])).embedding is None


def test_written_texts_are_counted_by_how_they_ended() -> None:
    """With their tokens, and with the repetition that the worker measured."""
    report = report_of(
        run_of(
            [
                answer({"text": "a", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 7}, pack(0)),
                answer({"text": "b", "finish_reason": "length", "prompt_tokens": 3, "completion_tokens": 64}),
                answer(
                    {"text": "c", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 1},
                    pack(0, repetition=18),
                ),
            ]
        )
    )
    found = report.generation
    assert found is not None
    assert found.finish_reasons == {"stop": 2, "length": 1}
    assert (found.output_tokens.sum, found.output_tokens.max) == (72, 64)
    assert found.repetition == bins({18: 1})
    translated = report_of(run_of([answer({"text": "a", "source_tokens": 2, "output_tokens": 5})])).generation
    assert translated is not None and (translated.finish_reasons, translated.output_tokens.sum) == ({}, 5)


def test_likelihoods_add_up_to_a_perplexity() -> None:
    """Texts of which nothing is predicted count nowhere."""
    scored = [(-2.0, 4), (-30.0, 3), (-100.0, 2)]
    outputs = [answer({"log_likelihood": nats, "perplexity": 1.0, "tokens": tokens}) for nats, tokens in scored]
    undefined = answer({"log_likelihood": None, "perplexity": None, "tokens": 0, "reason": "no token is predicted"})
    found = report_of(run_of([*outputs, undefined])).likelihood
    assert found is not None
    assert math.exp(-found.log_likelihood / found.tokens) == pytest.approx(math.exp(132 / 9))
    assert found.mean == bins({1: 1, 19: 2})


@pytest.mark.parametrize("output", ['{"text":1}', '{"text":"a"}', '{"log_likelihood":"x"}', '{"vector":{}}', "{}"])
def test_outputs_that_mean_something_else_are_not_counted(output: str) -> None:
    """A model of somebody's own may use the same names."""
    report = report_of(run_of([Answer(output.encode())]))
    assert report.results == 1
    assert (report.embedding, report.generation, report.likelihood, report.labels) == (None,) * 4


def test_reports_of_version_1_are_read() -> None:
    """What they do not say is absent."""
    written = json.loads(msgspec.json.encode(report_of(run_of([Answer(b"{}")]))))
    new = {"margin", "entropy", "scripts", "empty", "repeats", "unknown_tokens", "embedding", "generation"}
    old = {name: value for name, value in written.items() if name not in new} | {"version": "streamer.report.v1"}
    read = msgspec.json.decode(json.dumps(old), type=Report)
    assert (read.results, read.scripts, read.repeats, read.embedding) == (1, None, 0, None)


def test_the_largest_report_fits_its_topic() -> None:
    """A report is one record of its transaction: 1 MB is what a topic takes, and a pipeline must not stand for it."""
    drawn = random.Random(1)
    labels = [answer({"label": "x" * 300 + str(index), "score": 0.5}, pack(1, 2, 3)) for index in range(100)]
    vector = [drawn.gauss(0, 1) for _ in range(16_384)]
    vectors = [answer({"vector": vector}, pack(2**31) + bytes(range(16)) * 2) for _ in range(3)]
    for answers in (labels, vectors):
        _, _, _, value, _ = report_of(run_of(list(answers))).output("reports")
        assert value is not None and len(value) < 200_000
    assert len(BOUNDS) < 100 and Counter(SCRIPTS).total() == len(set(SCRIPTS))


@pytest.mark.parametrize(
    "output",
    [
        '{"text":"a","completion_tokens":1' + "0" * 25 + "}",
        '{"text":"a","output_tokens":1' + "0" * 25 + "}",
        '{"log_likelihood":-1e308,"tokens":1}',
        '{"log_likelihood":-1.0,"tokens":1' + "0" * 400 + "}",
    ],
)
def test_numbers_that_have_no_sum_are_not_counted(output: str) -> None:
    """A plan must be settled, whatever a model of somebody's own says."""
    report = report_of(run_of([Answer(output.encode())] * 2))
    assert report.results == 2
    assert (report.generation, report.likelihood) == (None, None)
    assert report.output("reports")
