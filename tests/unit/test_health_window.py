"""Windows: sums that do not depend on how reports are grouped, and the figures that people read."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.health.windows import figures
from streamer.core.health.windows.fold import MINUTE_MS
from streamer.core.health.windows.window import MAX_LABELS, Window, merged, vector_sum, window_of
from tests.health_kit import NOW_MS, histogram, measured, report

ENCODE = msgspec.msgpack.Encoder(order="deterministic").encode


def window(seed: int, minute: int = 0) -> Window:
    return window_of(measured(seed, NOW_MS + minute * MINUTE_MS), MINUTE_MS)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=3, max_size=8), st.randoms())
def test_any_grouping_has_the_same_sums(given_: list[tuple[int, int]], random: object) -> None:
    """Merging is associative and commutative, to the byte, floats included."""
    windows = [window(*one) for one in given_]
    together = ENCODE(merged(windows))
    left = windows[0]
    for other in windows[1:]:
        left = merged([left, other])
    random.shuffle(windows)  # type: ignore[attr-defined]
    right = windows[-1]
    for other in reversed(windows[:-1]):
        right = merged([other, right])
    assert ENCODE(left) == ENCODE(right) == together


def test_sums_are_those_of_the_reports() -> None:
    """Every measure is there, and every one is added."""
    one, two = window(4), window(6)
    both = merged([one, two])
    assert (both.start_ms, both.length_ms, both.micro_batches) == (NOW_MS, MINUTE_MS, 2)
    assert both.results == 62 and both.dead_letters == {"decode.json": 3} and both.records == 65
    assert both.labels == {"label 0": 2, "label 1": 2, "label 2": 3, "label 3": 4}
    for name in ("confidence", "margin", "entropy"):
        assert getattr(both, name) == [(4 * place) % 7 + (6 * place) % 7 for place in range(20)], name
    assert both.scripts == {"latin": 10, "greek": 2}
    assert (both.empty, both.repeats, both.unknown_tokens) == (2, 2, 4)
    assert both.latency_ms == histogram(10, 10, 100, 100)
    assert both.embedding is not None and both.generation is not None and both.likelihood is not None
    assert vector_sum(both.embedding) == pytest.approx([10 / 7, -10 / 3, 2e-3], abs=1e-6)
    assert len(both.embedding.projections) == 2 and both.embedding.norm == histogram(*[1000] * 2)
    assert both.generation.finish_reasons == {"stop": 10} and sum(both.generation.repetition) > 0
    assert both.likelihood.log_likelihood == pytest.approx(-10 / 3, abs=2e-3) and both.likelihood.tokens == 8


def test_reports_of_version_1_have_no_later_measures() -> None:
    """What no report tells is None, and does not count as nothing seen."""
    old = window_of(report(), MINUTE_MS)
    assert (old.scripts, old.embedding, old.likelihood, old.margin) == (None, None, None, None)
    assert merged([old, old]).labels is None and merged([old, window(4)]).scripts == {"latin": 4, "greek": 1}


def test_windows_of_several_revisions() -> None:
    """They add up to a window of no revision; pipelines do not."""
    one = window_of(report(revision="r1"), MINUTE_MS)
    two = window_of(report(NOW_MS + 2 * MINUTE_MS, revision="r2"), MINUTE_MS)
    assert (merged([one, two]).revision, merged([one, one]).revision) == ("", "r1")
    assert (merged([one, two]).start_ms, merged([one, two]).end_ms) == (NOW_MS, NOW_MS + 3 * MINUTE_MS)
    with pytest.raises(ValueError, match="pipelines"):
        merged([one, window_of(report(pipeline="q"), MINUTE_MS)])


def test_labels_are_bounded_in_any_order() -> None:
    """The sum stays exact, and which labels have a name does not depend on the order."""
    windows = [
        window_of(report(labels={f"{part}/{number:03}": 1 + part for number in range(50)}), MINUTE_MS)
        for part in range(8)
    ]
    forth, back = merged(windows), merged(windows[::-1])
    step = windows[3]
    for other in (*windows[4:], *windows[:3]):
        step = merged([step, other])
    assert ENCODE(forth) == ENCODE(back) == ENCODE(step)
    assert forth.labels is not None and len(forth.labels) == MAX_LABELS
    assert sum(forth.labels.values()) + forth.other_labels == 50 * 36


def test_a_vector_that_is_none_is_left_out() -> None:
    """NaN would spoil all sums that come after it."""
    broken = measured(4)
    assert broken.embedding is not None and broken.likelihood is not None
    broken.embedding.sum = b"\x00\x00\xc0\x7f" * 3
    broken.likelihood.log_likelihood = math.nan
    spoilt = window_of(broken, MINUTE_MS)
    assert (spoilt.embedding, spoilt.likelihood) == (None, None)
    assert merged([spoilt, window(4)]).embedding == window(4).embedding
    broken.likelihood.log_likelihood = -1e308
    assert window_of(broken, MINUTE_MS).likelihood is None


def test_figures() -> None:
    """By hand."""
    found = window_of(
        report(
            results=6,
            dead_letters={"decode.json": 1, "infer.nan": 1},
            skipped={"tombstone": 2},
            cached=3,
            truncated=1,
            tokens=30,
            latency_ms=histogram(10, 10, 10, 1000),
            text_chars=histogram(10, 50),
            labels={"a": 1, "b": 2, "c": 2},
            other_labels=5,
            confidence=[0] * 18 + [2, 2],
            scripts={"latin": 1, "greek": 3},
            empty=1,
            repeats=2,
            unknown_tokens=3,
        ),
        MINUTE_MS,
    )
    assert figures.rate(found) == 0.1
    assert figures.rate(found, NOW_MS + 2_000) == 3.0
    assert figures.rate(found, NOW_MS + 2 * MINUTE_MS) == figures.rate(found, NOW_MS - 1) == 0.1
    assert figures.dead_letter_share(found) == 0.2
    assert figures.cached_share(found) == 0.5
    assert figures.truncated_share(found) == 1 / 6
    assert figures.repeat_share(found) == 1 / 3
    assert figures.empty_share(found) == 0.5
    assert figures.unknown_share(found) == 0.1
    assert figures.tokens_per_char(found) == 0.5
    assert figures.mean_chars(found) == 30
    assert (figures.latency_ms(found, 0.5), figures.latency_ms(found, 0.99)) == (10, 1000)
    assert figures.mean_confidence(found) == pytest.approx(0.95)
    assert figures.label_shares(found, most=2) == {"b": 0.2, "c": 0.2, "": 0.6}
    assert list(figures.label_shares(found)) == ["b", "c", "a", ""]
    assert figures.script_shares(found) == {"greek": 0.75, "latin": 0.25}
    scored = window(8)
    assert figures.perplexity(scored) == pytest.approx(math.exp(8 / 3 / 4), rel=1e-3)


def test_figures_of_nothing() -> None:
    """No share of nothing is 0."""
    nothing = window_of(report(results=0, tokens=0, latency_ms=histogram(), text_chars=histogram()), MINUTE_MS)
    asked = (
        figures.dead_letter_share,
        figures.cached_share,
        figures.truncated_share,
        figures.repeat_share,
        figures.empty_share,
        figures.unknown_share,
        figures.tokens_per_char,
        figures.mean_chars,
        figures.mean_confidence,
        figures.perplexity,
    )
    assert [one(nothing) for one in asked] == [None] * len(asked)
    assert figures.latency_ms(nothing, 0.5) is None
    assert figures.label_shares(nothing) == figures.script_shares(nothing) == {}
